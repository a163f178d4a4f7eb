"""The command line, `perdure`. Reference: `docs/reference/cli.md`.

`app.py` lists the commands; each group has a file. `command.py` turns what goes wrong into a message and an exit code
(`exits.py`); `output.py` decides between a terminal, a pipe and JSON; `loading.py` imports the user's code.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit. typer and rich are imported here, not with perdure."""
    from perdure.cli.app import app

    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")  # an odd locale must not turn output into a traceback
    try:
        app(args=None if argv is None else list(argv), prog_name="perdure")
    except SystemExit as ended:
        if argv is None and "obstore" in sys.modules:
            _leave(ended.code if isinstance(ended.code, int) else int(ended.code is not None))
        raise


def _leave(code: int) -> None:
    """End the process at once. obstore has threads of its own: one that comes back to an interpreter that is being
    taken down aborts the process, and the exit code is lost."""
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(code)
