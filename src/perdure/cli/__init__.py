"""The command line, `perdure`. Reference: `docs/reference/cli.md`.

`app.py` lists the commands; each group has a file. `command.py` turns what goes wrong into a message and an exit code
(`exits.py`); `output.py` decides between a terminal, a pipe and JSON; `loading.py` imports the user's code.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit. typer and rich are imported here, not with perdure."""
    from perdure.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # an odd locale must not turn output into a traceback
    app(args=None if argv is None else list(argv), prog_name="perdure")
