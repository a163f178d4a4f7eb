"""`python -m perdure.demo [FOLDER]`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perdure.demo import main


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m perdure.demo", description=main.__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="where its files go (default: a new temporary folder)")
    parser.add_argument("--all", action="store_true", dest="with_tests", help="index the library's own tests, too")
    parser.add_argument("--library", type=Path, help="index the Python files of another folder")
    return parser.parse_args()


if __name__ == "__main__":
    options = _options()
    try:
        sys.exit(main(options.folder, with_tests=options.with_tests, library=options.library))
    except KeyboardInterrupt:
        sys.exit(130)
