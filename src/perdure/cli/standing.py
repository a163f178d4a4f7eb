"""Where one execution stands, folded from its history: what is open, what is done, what went wrong."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import msgspec

from perdure.codec import decode_failure
from perdure.codec.failure import Failure
from perdure.engine.loading import AttemptNote
from perdure.errors import InvalidValue
from perdure.types import HistoryEvent, instant

What = Literal["activity", "timer", "child"]
_OPENS: dict[str, What] = {"activity_scheduled": "activity", "timer_started": "timer", "child_started": "child"}
_ENDS = frozenset(
    "activity_completed activity_failed activity_cancelled timer_fired timer_cancelled"
    " child_completed child_failed child_cancelled child_cancel_requested".split()
)
_CLOSES = frozenset("completed failed cancelled continued terminated".split())


class Open(msgspec.Struct, omit_defaults=True):
    """Something that was begun and has not ended. `seq` is the event that began it."""

    seq: int
    what: What
    name: str | None = None
    since: datetime | None = None
    due_at: datetime | None = None
    """When a timer fires, or when the next attempt starts."""
    attempt: int = 0
    """Of an activity: the attempt that runs or comes next, from 1."""
    deferred: bool = False
    """It will be completed from outside."""
    error: str | None = None
    """The last failed attempt's."""


class Trouble(msgspec.Struct, omit_defaults=True):
    """An attempt, activity, child or the execution itself that failed, at event `seq`."""

    seq: int
    at: datetime
    what: str
    error: str
    name: str | None = None
    attempt: int | None = None


class ChildId(msgspec.Struct):
    """What this reads of the data of a `child_started` event."""

    id: str


class Reopened(msgspec.Struct):
    """The data of a `reopened` event."""

    from_seq: int


class Standing:
    """Feed it every event in order."""

    def __init__(self) -> None:
        self.seq = 0
        self.input: str | None = None
        self.open: dict[int, Open] = {}
        self.troubles: list[Trouble] = []
        self.closing: HistoryEvent | None = None
        self._ended: dict[int, tuple[int, Open]] = {}
        """What has ended: by seq of its begin, the event that ended it."""

    def done(self, what: What) -> int:
        """Count what has ended."""
        return sum(item.what == what for _, item in self._ended.values())

    def opened(self, what: What) -> list[Open]:
        return [item for item in self.open.values() if item.what == what]

    @property
    def failure(self) -> Failure | None:
        """What the execution failed with."""
        if self.closing is None or self.closing.kind != "failed":
            return None
        try:
            return decode_failure(self.closing.data or "{}")
        except InvalidValue:  # it is among the troubles, as it is
            return None

    def feed(self, event: HistoryEvent) -> None:
        try:
            self._take(event)
        except (msgspec.MsgspecError, RecursionError, ValueError):  # a file that somebody else wrote to
            self.troubles.append(Trouble(event.seq, event.at, "event", f"the data of {event.kind} cannot be read"))

    def _take(self, event: HistoryEvent) -> None:
        self.seq = event.seq
        kind = event.kind
        if kind in _OPENS:
            self.open[event.seq] = _begun(event, _OPENS[kind])
        elif kind in _ENDS:
            item = self.open.pop(event.ref or 0, None)
            if item is not None:
                self._ended[item.seq] = (event.seq, item)
                if kind in ("activity_failed", "child_failed"):
                    self._trouble(event, item.what, event.data, item.name, item.attempt or None)
        elif kind == "attempt_failed":
            self._attempt_failed(event)
        elif kind == "attempt_deferred" and event.ref in self.open:
            self.open[event.ref].deferred = True
        elif kind == "started":
            self.input = event.data
        elif kind == "reopened":
            self._reopen(msgspec.json.decode(event.data or "", type=Reopened).from_seq)
        elif kind in _CLOSES:
            self.closing = event
            if kind == "failed":
                self._trouble(event, "execution", event.data)

    def _attempt_failed(self, event: HistoryEvent) -> None:
        note = msgspec.json.decode(event.data or "", type=AttemptNote)
        error = note.error_text or note.reason
        item = self.open.get(event.ref or 0)
        if note.reason == "error":
            self._trouble(event, "attempt", error, item.name if item else None, note.attempt)
        if item is not None:
            item.attempt, item.deferred = note.attempt + 1, False
            item.due_at = None if note.retry_at is None else instant(note.retry_at)
            item.error = one_line(error) if note.reason == "error" else note.reason

    def _reopen(self, from_seq: int) -> None:
        """Take back what happened from there on; what had failed by then stays told."""
        self.closing = None
        for seq, (ended_at, item) in list(self._ended.items()):
            if ended_at >= from_seq:
                del self._ended[seq]
                self.open[seq] = item
        self.open = {seq: self.open[seq] for seq in sorted(self.open) if seq < from_seq}
        for item in self.open.values():
            if item.what == "activity":
                item.due_at = None

    def _trouble(
        self, event: HistoryEvent, what: str, data: str | None, name: str | None = None, attempt: int | None = None
    ) -> None:
        self.troubles.append(Trouble(event.seq, event.at, what, one_line(data or "{}"), name, attempt))


def one_line(data: str) -> str:
    """Write a recorded failure as one line: type and first line of the message."""
    try:
        failure = decode_failure(data)
    except InvalidValue:
        return data.partition("\n")[0]
    name = failure.type.partition(":")[2] or failure.type
    message = failure.message.partition("\n")[0]
    return f"{name}: {message}" if message else name


def _begun(event: HistoryEvent, what: What) -> Open:
    match what:
        case "activity":
            return Open(event.seq, what, event.name, event.at, attempt=1)
        case "timer":
            return Open(event.seq, what, None, event.at, due_at=instant(int(event.data or 0)))
        case "child":
            id = msgspec.json.decode(event.data or "", type=ChildId).id
            return Open(event.seq, what, f"{event.name} {id}", event.at)
