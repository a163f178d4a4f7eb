"""One batch in the making: what will be written, and what may leave the process once it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from perdure.engine.attempt import Attempt
from perdure.engine.inputs import Deliver, Input
from perdure.engine.live import Live
from perdure.events import Event
from perdure.store import Batch, ExecutionRow, InboxRow


class Work(msgspec.Struct, eq=False):
    """See the module."""

    batch: Batch = msgspec.field(default_factory=Batch)
    taken: list[Input] = []
    """The inputs that went into it; handled again, or refused, if the commit fails."""
    told: deque[Deliver] = msgspec.field(default_factory=deque)
    """What these executions tell each other; belongs into the same transaction."""
    later: list[Input] = []
    """Inputs for the next batch, if this one is written."""
    touched: dict[Live, None] = {}
    """Executions whose memory ran ahead of the disk."""
    starts: list[Attempt] = []
    goes: list[Callable[[], object]] = []
    """What lets attempts run whose start is in this batch."""
    stops: list[Attempt] = []
    replies: list[tuple[asyncio.Future[Any], Any]] = []
    closed: dict[str, tuple[ExecutionRow, Event | None]] = {}
    """Executions that ended in this batch, by id, with their closing event."""
    moved: list[tuple[ExecutionRow, InboxRow]] = []
    """Entries of the inbox that are for another run now; the store still has them with the old one."""
    timers_fired: bool = False
    commit: int = 0
    """The number of the newest commit that led to it, if commits are replicated."""
    looked: bool = False
    """Whether somebody else may have written to the file."""
    timers: list[ExecutionRow | None] = []
    """Whose timers went into it."""

    def reply(self, future: asyncio.Future[Any] | None, value: Any = None) -> None:
        if future is not None:
            self.replies.append((future, value))
