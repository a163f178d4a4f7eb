"""A live line about one execution, on a terminal's stderr."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from perdure.cli.moments import brief, relative
from perdure.cli.output import STYLES, clean, shorten
from perdure.cli.standing import Standing
from perdure.client import Execution
from perdure.types import ExecutionInfo

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

NAMES = 3
"""How many kinds of running activities are named."""


class Progress:
    """Nothing at all without a console."""

    def __init__(self, console: Console | None, execution: Execution[Any], workflow: str) -> None:
        self.console = console
        self.execution = execution
        self.workflow = workflow
        self.standing = Standing()
        self.run = 0
        self.began = time.monotonic()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        if self.console is not None:
            from rich.live import Live

            self._live = Live(console=self.console, transient=True, refresh_per_second=8)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self._live.stop()

    async def update(self, info: ExecutionInfo) -> None:
        """Read what is new in the history and show it."""
        if self._live is None:
            return
        if info.run != self.run:
            self.run, self.standing = info.run, Standing()
        async for event in self.execution.history(run=info.run, after=self.standing.seq):
            self.standing.feed(event)
        self._live.update(self._line(info))

    def _line(self, info: ExecutionInfo) -> Any:
        from rich.spinner import Spinner
        from rich.text import Text

        took = brief(time.monotonic() - self.began)
        line = Text.assemble(
            (clean(self.workflow), "bold"), " ", (clean(info.id), "cyan"), "  ",
            (info.status.value, STYLES[info.status]), (f"  {took}  {info.events:,} events", "dim"),
        )  # fmt: skip
        self._steps(line)
        return Spinner("dots", line)

    def _steps(self, line: Text) -> None:
        standing = self.standing
        done, children = standing.done("activity"), standing.opened("child")
        if done:
            line.append(f"  {done:,} activities done")
        if children:
            ended = standing.done("child")
            line.append(f"  {ended:,}/{ended + len(children):,} children")
        running = Counter(shorten(clean(item.name), 30) for item in standing.opened("activity"))
        names = ", ".join(name if count == 1 else f"{count}× {name}" for name, count in running.most_common(NAMES))
        if names:
            line.append(f"  {names}" + (" …" if len(running) > NAMES else ""), "blue")
        due = [item.due_at for item in standing.opened("timer") if item.due_at is not None]
        if due and not running and not children:
            line.append(f"  wakes {relative(min(due), datetime.now(UTC))}", "dim")
