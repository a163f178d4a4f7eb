"""Whether the tables beside the history say what it says: status, timers, readable state, inbox, heartbeats."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from perdure.events import INPUTS, Event, Kind
from perdure.store import ExecutionRow, InboxRow, Purpose, TimerRow
from perdure.store.sqlite.contents import Entry
from perdure.testing.audit.standing import ACTIVITY_ENDS, CHILD_ENDS, Standing
from perdure.types import Status

CLOSED_BY = {
    Kind.COMPLETED: Status.COMPLETED,
    Kind.FAILED: Status.FAILED,
    Kind.CANCELLED: Status.CANCELLED,
    Kind.CONTINUED: Status.CONTINUED,
    Kind.TERMINATED: Status.TERMINATED,
}
_REQUESTS = frozenset({"signal", "cancel", "terminate", "pause", "resume", "retry", "complete", "fail"})
_ENDINGS = frozenset({*ACTIVITY_ENDS, *CHILD_ENDS, Kind.TIMER_FIRED})


class Parked:
    """The inputs that wait in the inbox of an execution: what they end has ended for the other tables."""

    def __init__(self, inbox: list[InboxRow]) -> None:
        events = [entry for entry in inbox if entry.what == "event"]
        self.ends = Counter(entry.ref or 0 for entry in events if entry.kind in _ENDINGS)
        self.timed_out = any(entry.kind == Kind.TIMED_OUT for entry in events)


# --- status ---------------------------------------------------------------------------------------------------------


def check_status(entry: Entry, standing: Standing) -> Iterator[str]:
    row, status = entry.row, entry.row.status
    if (row.problem is not None) is not (status is Status.BLOCKED):
        yield f"it is {status} and its problem is {row.problem!r}"
    closing = standing.closing
    expected = CLOSED_BY[closing.kind] if closing is not None else None
    if expected is not (status if status.closed else None):
        yield f"it is {status}, and its history ends with {closing or entry.events[-1]}"
    if row.ended_at != (closing.at if closing is not None else None):
        yield f"it ended at {row.ended_at}, its history at {closing.at if closing is not None else None}"
    started = next((event for event in entry.events if event.kind is Kind.STARTED), None)
    if started is not None and started.name != row.workflow:
        yield f"its workflow is {row.workflow}, that of its history {started.name}"
    if not status.closed and status is not Status.BLOCKED:
        yield from _check_open(entry, standing)


def _check_open(entry: Entry, standing: Standing) -> Iterator[str]:
    status = entry.row.status
    if standing.paused is not (status is Status.PAUSED):
        yield f"it is {status}, and its history says {'paused' if standing.paused else 'not paused'}"
    if status is Status.PENDING and standing.begun:
        yield f"it is pending, and its history goes on to {entry.events[-1]}"
    active = [seq for seq in standing.activities if is_active(seq, standing, entry.timers)]
    if status is Status.WAITING and active:
        yield f"it is waiting, and the activities {active} should be running"
    if status is Status.RUNNING and not active and not standing.reopened:
        yield "it is running, and no activity should be"


def is_active(seq: int, standing: Standing, timers: list[TimerRow]) -> bool:
    """Say whether an open activity runs or is about to, and does not wait for a timer or for the world."""
    if seq in standing.deferred:
        return False
    note = standing.activities[seq]
    if note is None or note.reason == "stopped":
        return True
    return not any(timer.seq == seq and timer.purpose == Purpose.RETRY for timer in timers)


# --- timers ---------------------------------------------------------------------------------------------------------


def check_timers(entry: Entry, standing: Standing) -> Iterator[str]:
    """A timer that must be there is, and no other is but those that may be."""
    row = entry.row
    found = {(timer.due_at, timer.seq, Purpose(timer.purpose)) for timer in entry.timers}
    must, may = _timers(row, standing, Parked(entry.inbox))
    for due_at, seq, purpose in sorted(must - found):
        yield f"its timer {purpose.name.lower()} of #{seq}, due at {due_at}, is missing"
    for due_at, seq, purpose in sorted(found - must - may):
        if not _is_leftover(row) and not _may_time_out(purpose, seq, standing):
            yield f"there is a timer {purpose.name.lower()} of #{seq}, due at {due_at}, that nothing asks for"


_Timers = set[tuple[int, int, Purpose]]


def _timers(row: ExecutionRow, standing: Standing, parked: Parked) -> tuple[_Timers, _Timers]:
    """Give the timers that must be there, and those that may."""
    must: _Timers = set()
    may: _Timers = set()
    if row.status.closed:
        return must, may
    for seq, due_at in standing.timers.items():
        if seq not in parked.ends:
            must.add((due_at, seq, Purpose.SLEEP))
    if row.deadline_at is not None and not standing.timed_out and not parked.timed_out:
        # another process that starts an execution leaves this to the runner
        (must if standing.begun else may).add((row.deadline_at, 0, Purpose.DEADLINE))
    for seq, note in standing.activities.items():
        if note is not None and note.retry_at is not None:
            may.add((note.retry_at, seq, Purpose.RETRY))
    return must, may


def _may_time_out(purpose: Purpose, seq: int, standing: Standing) -> bool:
    """The limit of a deferred activity is in its code."""
    return purpose is Purpose.ACTIVITY_TIMEOUT and seq in standing.deferred


def _is_leftover(row: ExecutionRow) -> bool:
    """What was terminated while its code did not fit leaves timers; they find nothing when they are due."""
    return row.status is Status.TERMINATED


# --- state, inbox, heartbeats ---------------------------------------------------------------------------------------


def check_state(entry: Entry, standing: Standing) -> Iterator[str]:
    for key in sorted(standing.state.keys() | entry.state.keys()):
        said, found = standing.state.get(key), entry.state.get(key)
        if said != found:
            yield f"its state {key!r} is {found}, and {said} in its history"


def check_inbox(entry: Entry, standing: Standing) -> Iterator[str]:
    known = {event.seq: event for event in entry.events}
    for waiting in entry.inbox:
        if waiting.what == "event":
            yield from _check_parked(waiting, known)
        elif waiting.what not in _REQUESTS:
            yield f"entry {waiting.n} of the inbox is {waiting.what!r}, which is no request"
    for ref, count in Parked(entry.inbox).ends.items():
        if count > 1:
            yield f"{count} entries of the inbox end #{ref}"
        if ref in known and known[ref].kind is Kind.ACTIVITY_SCHEDULED and ref not in standing.activities:
            yield f"an entry of the inbox ends #{ref}, which has ended"


def _check_parked(waiting: InboxRow, known: dict[int, Event]) -> Iterator[str]:
    if waiting.kind not in INPUTS:
        yield f"entry {waiting.n} of the inbox is an event of kind {waiting.kind}, which is no input"
    elif waiting.kind in _ENDINGS and waiting.ref not in known:
        yield f"entry {waiting.n} of the inbox ends #{waiting.ref}, which is not there"


def check_heartbeats(entry: Entry, standing: Standing) -> Iterator[str]:
    parked = Parked(entry.inbox)
    for beat in entry.heartbeats:
        if entry.row.status.closed or beat.seq not in standing.activities or beat.seq in parked.ends:
            yield f"there is a heartbeat of #{beat.seq}, which is not open"
        elif beat.attempt > standing.attempts.get(beat.seq, 0) + 1:
            yield f"there is a heartbeat of attempt {beat.attempt} of #{beat.seq}, which has not begun"
