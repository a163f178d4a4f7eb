"""One batch in the making: what will be written, and what may leave the process once it is."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from perdure.engine.attempt import Attempt
from perdure.engine.inputs import Deliver, Input
from perdure.engine.live import Live
from perdure.events import Event
from perdure.store import Batch, ExecutionRow, InboxRow


class Work:
    """See the module."""

    __slots__ = (
        "batch",
        "closed",
        "commit",
        "goes",
        "later",
        "looked",
        "moved",
        "replies",
        "starts",
        "stops",
        "taken",
        "timers",
        "timers_fired",
        "told",
        "touched",
    )

    def __init__(self) -> None:
        self.batch = Batch()
        self.taken: list[Input] = []
        """The inputs that went into it; handled again, or refused, if the commit fails."""
        self.told: deque[Deliver] = deque()
        """What these executions tell each other; belongs into the same transaction."""
        self.later: list[Input] = []
        """Inputs for the next batch, if this one is written."""
        self.touched: dict[Live, None] = {}
        """Executions whose memory ran ahead of the disk."""
        self.starts: list[Attempt] = []
        self.goes: list[Callable[[], object]] = []
        """What lets attempts run whose start is in this batch."""
        self.stops: list[Attempt] = []
        self.replies: list[tuple[asyncio.Future[Any], Any]] = []
        self.closed: dict[str, tuple[ExecutionRow, Event | None]] = {}
        """Executions that ended in this batch, by id, with their closing event."""
        self.moved: list[tuple[ExecutionRow, InboxRow]] = []
        """Entries of the inbox that are for another run now; the store still has them with the old one."""
        self.timers_fired = False
        self.commit = 0
        """The number of the newest commit that led to it, if commits are replicated."""
        self.looked = False
        """Whether somebody else may have written to the file."""
        self.timers: list[ExecutionRow | None] = []
        """Whose timers went into it."""

    @property
    def effects(self) -> bool:
        """Whether anything is to leave the process once it is written."""
        return bool(self.starts or self.stops or self.replies or self.closed or self.goes)

    def reply(self, future: asyncio.Future[Any] | None, value: Any = None) -> None:
        if future is not None:
            self.replies.append((future, value))
