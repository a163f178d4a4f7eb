"""What is written where: for people on a terminal, one plain line per thing in a pipe, JSON on request.

Answers go to stdout, everything else (progress, notes, errors) to stderr. Text from the database is shown with its
control characters escaped: a file from a stranger must not steer the terminal.
"""

from __future__ import annotations

import sys
from functools import cached_property
from typing import TYPE_CHECKING, Any

import msgspec
import typer

from perdure.errors import PerdureError
from perdure.types import Status

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.text import Text

_TURNS = (*range(0x202A, 0x202F), *range(0x2066, 0x206A))
"""What has a terminal write from right to left: it can make one id look like another."""
_ESCAPES = (
    {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160))}
    | {ord("\t"): "\\t", ord("\n"): "\\n", ord("\r"): "\\r"}
    | {code: f"\\u{code:04x}" for code in _TURNS}
)
_JSON_ESCAPES = dict.fromkeys(range(32), " ") | {code: f"\\u{code:04x}" for code in (*range(127, 160), *_TURNS)}
"""In JSON the former stand between values only, the latter in texts only."""
_KEEP_LINES = {code: text for code, text in _ESCAPES.items() if code not in (ord("\n"), ord("\t"))}

STYLES = {
    Status.PENDING: "cyan",
    Status.RUNNING: "bold blue",
    Status.WAITING: "blue",
    Status.PAUSED: "yellow",
    Status.BLOCKED: "bold red",
    Status.COMPLETED: "green",
    Status.FAILED: "red",
    Status.CANCELLED: "magenta",
    Status.TERMINATED: "magenta",
    Status.CONTINUED: "green",
}


def clean(value: object, *, lines: bool = False) -> str:
    """Write a value on one line (with `lines` on several) without control characters; empty for None."""
    text = "" if value is None else str(value)
    text = text.encode("utf-8", "backslashreplace").decode()
    return text.translate(_KEEP_LINES if lines else _ESCAPES)


def recorded(data: str) -> msgspec.Raw:
    """Give recorded JSON as it is, to be written as a part of other JSON. What is no JSON becomes a text."""
    try:
        return msgspec.json.decode(data, type=msgspec.Raw)
    except (msgspec.MsgspecError, RecursionError):
        return msgspec.Raw(msgspec.json.encode(data))


def shorten(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: max(limit - 1, 0)] + "…"


def counted(count: int, noun: str) -> str:
    """Write a number with its noun: `1 execution`, `2,000 executions`."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def styled(value: object, style: str = "") -> Text:
    """Make cleaned text for rich, in which no markup is looked for."""
    from rich.text import Text

    return Text(clean(value, lines=True), style=style)


class Output:
    """One command's stdout. `terminal` says that a person reads it."""

    def __init__(self, json: bool = False) -> None:
        if sys.stdout is None:  # closed by whoever started this: nobody takes the answer
            raise typer.Exit(1)
        self.json = json
        self.terminal = sys.stdout.isatty() and not json

    @cached_property
    def console(self) -> Console:
        from rich.console import Console

        return Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=not self.terminal)

    def print(self, *parts: RenderableType) -> None:
        """Print for a terminal."""
        self.console.print(*parts)

    def line(self, *fields: object) -> None:
        """Print one line of fields with tabs between them, for a pipe."""
        sys.stdout.write("\t".join(clean(field) for field in fields) + "\n")

    def object(self, value: Any) -> None:
        """Print one line of JSON."""
        sys.stdout.write(msgspec.json.encode(value).decode().translate(_JSON_ESCAPES) + "\n")

    def done(self, message: str, value: Any) -> None:
        """Say that a request was taken: JSON on request, a sentence for people, nothing in a pipe."""
        if self.json:
            self.object(value)
        elif self.terminal:
            self.print(styled(message))

    def finding(self, check: str, verdict: str, detail: str) -> None:
        """Say what was checked, whether it is `ok`, a `note` or a `problem`, and the detail."""
        if not self.terminal:
            self.line(verdict, check, detail)
            return
        from rich.text import Text

        mark, style = {"ok": ("✓", "green"), "note": ("•", "yellow"), "problem": ("✗", "bold red")}[verdict]
        plain = "" if verdict == "ok" else style
        self.print(Text.assemble((f"{mark} {check:<11}", style), (clean(detail, lines=True), plain)))

    def fact(self, name: str, value: str) -> None:
        """Say one thing by its name."""
        if not self.terminal:
            self.line(name, value)
            return
        from rich.text import Text

        self.print(Text.assemble((f"{name:<12}", "dim"), clean(value, lines=True)))

    def flush(self) -> None:
        sys.stdout.flush()


def error_console() -> Console:
    from rich.console import Console

    return Console(stderr=True, highlight=False, markup=False, emoji=False)


def note(message: str, console: Console | None = None) -> None:
    """Say something on stderr that is not an error. `console` is the one that shows a live display now."""
    text = clean(message, lines=True)
    if sys.stderr.isatty():
        (console or error_console()).print(styled(text, "dim"))
    else:
        sys.stderr.write(text + "\n")


def complain(message: str, hint: str = "") -> None:
    """Print an error and what to do about it on stderr."""
    message, hint = clean(message, lines=True), clean(hint, lines=True)
    if not sys.stderr.isatty():
        sys.stderr.write(f"error: {message}\n" + (f"hint: {hint}\n" if hint else ""))
        return
    from rich.text import Text

    console = error_console()
    console.print(Text.assemble(("error: ", "bold red"), message))
    if hint:
        console.print(Text.assemble(("hint: ", "bold"), hint))


def complain_about(error: PerdureError) -> None:
    complain(Exception.__str__(error) or type(error).__name__, error.hint)
