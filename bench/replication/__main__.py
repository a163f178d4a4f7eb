"""Run one job and print {"values": {figure: value}}: `python -m bench.replication NAME key=value… --dir DIR`."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench.replication import following, takeover
from bench.replication.buckets import NotHere

JOBS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, float]]]] = {
    "overhead": following.overhead,
    "lag": following.lag,
    "barrier": following.barrier,
    "barrier_conc": following.barrier_conc,
    "takeover": takeover.takeover,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.replication", description=__doc__)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("options", nargs="*", metavar="key=value")
    parser.add_argument("--dir", type=Path, required=True, help="an empty folder for databases and buckets")
    options = parser.parse_args()
    arguments = {key: int(value) for key, _, value in (pair.partition("=") for pair in options.options)}
    try:
        print(json.dumps({"values": asyncio.run(JOBS[options.job](options.dir.absolute(), **arguments))}))
    except NotHere as error:
        print(json.dumps({"not_run": str(error)}))


if __name__ == "__main__":
    main()
