"""What the audience sees: headings, facts, and progress that is a live bar on a terminal and plain lines in a pipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

Tell = Callable[[int, str], None]
"""Takes the number of files done and a note."""

LINES = 5
"""How many lines of progress a whole job gives when the output is piped."""


class Display:
    """See the module."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Console(highlight=False, soft_wrap=True)
        self._scene = 0

    def line(self, text: str = "") -> None:
        self.console.print(Text(text))

    def scene(self, text: str) -> None:
        """Begin the next part."""
        self._scene += 1
        self.console.print()
        self.console.print(Text(f"{self._scene}. {text}", style="bold"))

    def fact(self, text: str) -> None:
        self.console.print(Text(f"   {text}"))

    def verdict(self, text: str, ok: bool) -> None:
        mark, style = ("ok ", "green") if ok else ("NO ", "bold red")
        self.console.print(Text("   ").append(mark, style).append(text))

    @contextmanager
    def progress(self, total: int, done: int = 0) -> Iterator[Tell]:
        """Show how many of `total` files are done; give the function to tell it with."""
        if not self.console.is_terminal:
            yield self._lines(total, done)
            return
        note = TextColumn("{task.fields[note]}")
        columns = (
            TextColumn("  "),
            BarColumn(40),
            MofNCompleteColumn(),
            TextColumn("files"),
            note,
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task("files", total=total, completed=done, note="")
            yield lambda count, note: bar.update(task, completed=count, note=note)

    def _lines(self, total: int, done: int) -> Tell:
        told = done * LINES // total

        def tell(count: int, note: str) -> None:
            nonlocal told
            if (part := count * LINES // total) > told:
                told = part
                self.fact(f"{count:,} of {total:,} files  {note}".rstrip())

        return tell
