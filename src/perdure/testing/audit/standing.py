"""Where an execution stands, read off its history alone: no code runs, and no other table is looked at."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure.events import CLOSING, INPUTS, Event, Kind
from perdure.replay.history import Inherited

ACTIVITY_ENDS = frozenset({Kind.ACTIVITY_COMPLETED, Kind.ACTIVITY_FAILED, Kind.ACTIVITY_CANCELLED})
CHILD_ENDS = frozenset({Kind.CHILD_COMPLETED, Kind.CHILD_FAILED, Kind.CHILD_CANCELLED})


class AttemptNote(msgspec.Struct):
    """What this reads of the data of `ATTEMPT_FAILED` and `ATTEMPT_DEFERRED` events."""

    attempt: int
    reason: str = "error"
    retry_at: int | None = None


class ChildStart(msgspec.Struct):
    """What this reads of the data of a `CHILD_STARTED` event."""

    id: str
    on_parent_end: str = "cancel"


class Standing:
    """Takes the events that count (`replay.history.effective`) and holds what is open after them."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.activities: dict[int, AttemptNote | None] = {}
        """Open ones, by the seq of their schedule, with the note of their last attempt that ended."""
        self.attempts: dict[int, int] = {}
        """By the seq of an activity: the number of its last attempt of which the end is noted."""
        self.deferred: set[int] = set()
        """Those of them that wait for a completion from outside."""
        self.timers: dict[int, int] = {}
        """Running ones: seq to due instant."""
        self.children: dict[int, ChildStart] = {}
        """All that were started, ended ones too."""
        self.child_ends: dict[int, Event] = {}
        self.state: dict[str, str] = {}
        self.paused = False
        self.timed_out = False
        self.cancelled = False
        """Whether it was asked to stop."""
        self.closing: Event | None = None
        self.begun = False
        """Whether its code ran: something other than what it starts with is recorded."""
        self.reopened = False
        """Whether the code has still to be given the input after which it was opened again."""
        for event in events:
            self._take(event)

    def _take(self, event: Event) -> None:
        kind = event.kind
        if kind not in (Kind.STARTED, Kind.INHERITED):
            self.begun = True
        self.reopened = kind is Kind.REOPENED or (self.reopened and kind in INPUTS)
        if kind in CLOSING:
            self.closing = event
        match kind:
            case Kind.INHERITED:
                inherited = msgspec.json.decode(event.data or "", type=Inherited)
                self.state = {key: bytes(raw).decode() for key, raw in inherited.state.items()}
            case Kind.STATE_SET:
                self._set_state(event.name or "", event.data)
            case Kind.PAUSED | Kind.RESUMED:
                self.paused = kind is Kind.PAUSED
            case Kind.REOPENED:
                self.closing = None
                self.deferred.clear()
                self.activities = dict.fromkeys(self.activities)
            case Kind.TIMED_OUT:
                self.timed_out = True
            case Kind.CANCEL_REQUESTED:
                self.cancelled = True
            case _:
                self._take_part(event)

    def _take_part(self, event: Event) -> None:
        """Take an event of an activity, a timer or a child."""
        ref = event.ref or 0
        match event.kind:
            case Kind.ACTIVITY_SCHEDULED:
                self.activities[event.seq] = None
            case Kind.ATTEMPT_FAILED if ref in self.activities:
                note = self.activities[ref] = msgspec.json.decode(event.data or "", type=AttemptNote)
                self.attempts[ref] = note.attempt
            case Kind.ATTEMPT_DEFERRED:
                self.deferred.add(ref)
            case kind if kind in ACTIVITY_ENDS:
                self.activities.pop(ref, None)
                self.deferred.discard(ref)
            case Kind.TIMER_STARTED:
                self.timers[event.seq] = int(event.data or "")
            case Kind.TIMER_FIRED | Kind.TIMER_CANCELLED:
                self.timers.pop(ref, None)
            case Kind.CHILD_STARTED:
                self.children[event.seq] = msgspec.json.decode(event.data or "", type=ChildStart)
            case kind if kind in CHILD_ENDS:
                self.child_ends[ref] = event

    def _set_state(self, key: str, data: str | None) -> None:
        if data is None:
            self.state.pop(key, None)
        else:
            self.state[key] = data
