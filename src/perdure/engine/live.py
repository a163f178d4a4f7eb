"""An execution in memory: its row, its code's state, and its activities in progress."""

from __future__ import annotations

from perdure.engine.attempt import Attempt, Phase
from perdure.events import Event
from perdure.replay import Run
from perdure.store import ExecutionRow
from perdure.types import Status


class Live:
    """`run` is None while the execution is blocked: its code does not fit its history, so nothing can be applied."""

    __slots__ = ("attempts", "before", "first", "last_at", "paused_at", "row", "run", "timers")

    def __init__(self, row: ExecutionRow, run: Run | None) -> None:
        self.row = row
        self.run = run
        self.before = row.status
        """What the row said when it was loaded."""
        self.attempts: dict[int, Attempt] = {}
        """Activities in progress, by the seq of their schedule."""
        self.timers: dict[int, int] = {}
        """Timers in progress: seq to due instant."""
        self.first: list[Event] = []
        """Events that are recorded but that the code has not seen: those which an execution starts with."""
        self.paused_at: int | None = None
        """Since when it is paused, as its log says; a blocked one is paused again once its code fits."""
        self.last_at = 0
        """The instant of the newest event."""

    @property
    def held(self) -> bool:
        """Whether inputs have to wait in the inbox."""
        return self.run is None or self.row.status is Status.PAUSED

    def status(self) -> Status:
        """Give what the row should say while the execution is open and not held."""
        for attempt in self.attempts.values():
            if attempt.phase is Phase.READY or attempt.phase is Phase.RUNNING:  # else it waits: for a timer, the world
                return Status.RUNNING
        return Status.WAITING
