"""The log of a command that runs workflows, on stderr."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING

from perdure.cli.output import clean, styled

if TYPE_CHECKING:
    from rich.console import Console

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}


class ConsoleHandler(logging.Handler):
    """Prints above a live display."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        try:
            when = time.strftime("%H:%M:%S", time.localtime(record.created))
            text = styled(f"{when} ", "dim")
            text.append_text(styled(self.format(record), _STYLES.get(record.levelno, "")))
            self.console.print(text, soft_wrap=True)
        except Exception:
            self.handleError(record)


class CleanFormatter(logging.Formatter):
    """Writes lines that do not steer the terminal on which the log is read."""

    def format(self, record: logging.LogRecord) -> str:
        return clean(super().format(record), lines=True)


def configure(level: int, console: Console | None) -> None:
    """Send the log to stderr: to the console of a terminal, otherwise as plain lines. Leaves a log that the user's
    modules have set up as it is."""
    root = logging.getLogger()
    if root.handlers:
        return
    handler: logging.Handler
    if console is not None:
        handler = ConsoleHandler(console)
    else:
        handler = logging.StreamHandler()
        handler.setFormatter(CleanFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    root.addHandler(handler)
    logging.getLogger("perdure").setLevel(level)
    root.setLevel(max(level, logging.INFO))
