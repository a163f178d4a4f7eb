"""Opening a failed execution again just before the input that led to its end.

What the log says from that input on is superseded by a `REOPENED` event; replay leaves it out. Children that the
failure stopped are opened again too. Everything is looked at first, and refused or planned; then it is written, in one
transaction. Inputs that arrived between the failure and the end (a signal, a child's result) are not lost: they go
into the inbox.

An id has one open run at most. Another process may start one while the retry is on its way, so the commit looks once
more; a child whose id was taken by another run stays as it ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import msgspec

from perdure.codec import decode_failure
from perdure.engine.commands import child_end
from perdure.engine.inputs import Begin
from perdure.errors import PerdureError
from perdure.events import CLOSING, INPUTS, Event, Kind
from perdure.replay.history import Inherited, effective
from perdure.store import ExecutionRow, Parked, Purpose
from perdure.types import Status

if TYPE_CHECKING:
    from perdure.engine.runner import Runner

_CHILD_ENDS = (Kind.CHILD_COMPLETED, Kind.CHILD_FAILED, Kind.CHILD_CANCELLED)
_KEPT_INPUTS = (Kind.SIGNAL_RECEIVED, Kind.ACTIVITY_COMPLETED, Kind.ACTIVITY_FAILED, *_CHILD_ENDS)


@dataclass
class Plan:
    """How one execution is to be opened again."""

    row: ExecutionRow
    last: Event
    """The last event of its log."""
    point: Event
    """The input to go back to."""
    kept: list[Event]
    """What counts of the log before that."""
    again: Event | None = None
    """The point itself, if it is to be taken once more as it was."""
    late: list[Event] = field(default_factory=list)
    """Inputs to take after it."""
    children: list[Plan] = field(default_factory=list)

    def told(self, ref: int) -> bool:
        return any(event.ref == ref and event.kind in _CHILD_ENDS for event in (self.again, *self.late) if event)

    def forget(self, ref: int) -> None:
        """Drop the recorded end of a child: it will have another."""
        self.late = [event for event in self.late if event.ref != ref]
        if self.again is not None and self.again.ref == ref:
            self.again = None


class Reopening:
    """Part of the runner: `runner.work` is the batch in the making."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def reopen(self, row: ExecutionRow) -> None:
        """Open `row` again. Raises `PerdureError` while children of it are still being cancelled."""
        self._carry_out(self._plan(row, stopped=False))

    def is_open_again(self, row: ExecutionRow) -> bool:
        """Say whether the batch in the making opens this execution again; the store still says that it is closed."""
        rows = self.runner.work.batch.statuses if row.num else ()
        return any(other.num == row.num and not other.status.closed for other in rows)

    # --- planning ---------------------------------------------------------------------------------------------------

    def _plan(self, row: ExecutionRow, stopped: bool) -> Plan:
        """`stopped` says that its parent's failure may have stopped it, so that a cancellation is taken back."""
        history = self.runner.store.history(row.num)
        events = effective(history)
        point = _turning_point(events, stopped)
        plan = Plan(row, history[-1], point, [event for event in events if event.seq < point.seq])
        undone = (Kind.ACTIVITY_FAILED, Kind.TIMED_OUT, *([Kind.CANCEL_REQUESTED] if stopped else []))
        plan.again = None if point.kind in undone else point
        known = {event.seq for event in plan.kept}
        later = (event for event in events if event.seq > point.seq and event.kind in _KEPT_INPUTS)
        plan.late = [event for event in later if event.ref is None or event.ref in known]
        self._plan_children(plan)
        return plan

    def _plan_children(self, plan: Plan) -> None:
        open_ = {event.seq for event in plan.kept if event.kind is Kind.CHILD_STARTED}
        open_ -= {event.ref for event in plan.kept if event.kind in _CHILD_ENDS}
        cancelled = {event.ref for event in plan.kept if event.kind is Kind.CHILD_CANCEL_REQUESTED}
        newest = {child.parent_seq: child for child in self.runner.store.children(plan.row.num)}
        for seq in sorted(open_ & newest.keys()):
            child = newest[seq]
            if child.id in self.runner.work.closed:
                raise PerdureError(
                    f"execution {plan.row.id} cannot be retried yet: its child {child.id} is just ending",
                    hint="retry once the child has ended",
                )
            if not child.status.closed:
                if seq not in cancelled and self._is_cancelled(child):
                    raise PerdureError(
                        f"execution {plan.row.id} cannot be retried yet: its child {child.id} is still being cancelled",
                        hint="retry once the child has ended",
                    )
            elif child.status in (Status.FAILED, Status.CANCELLED) and seq not in cancelled and self._is_newest(child):
                plan.forget(seq)
                plan.children.append(self._plan(child, stopped=True))
            elif not plan.told(seq):
                plan.late.append(self._end(child, seq))

    def _is_newest(self, child: ExecutionRow) -> bool:
        """Say whether nobody has started another run of a child's id since it ended."""
        newest = self.runner.memory.find(child.id)
        return newest is not None and newest.num == child.num

    def _is_cancelled(self, child: ExecutionRow) -> bool:
        return any(event.kind is Kind.CANCEL_REQUESTED for event in effective(self.runner.store.history(child.num)))

    def _end(self, child: ExecutionRow, seq: int) -> Event:
        """Give the end of a child as its parent would have been told it."""
        closing = self.runner.store.last_event(child.num)
        assert closing is not None
        kind, data = child_end(child, closing)
        return Event(0, kind, closing.at, seq, child.workflow, data)

    # --- carrying out -----------------------------------------------------------------------------------------------

    def _carry_out(self, plan: Plan) -> None:
        runner, row, point = self.runner, plan.row, plan.point
        batch = runner.work.batch
        at, seq = max(runner.now, plan.last.at), plan.last.seq + 1
        batch.events.append((row, Event(seq, Kind.REOPENED, at, None, None, f'{{"from_seq":{point.seq}}}')))
        if plan.again is not None:
            batch.events.append((row, Event(seq + 1, point.kind, at, point.ref, point.name, point.data)))
        for event in plan.late:
            what = "signal" if event.kind is Kind.SIGNAL_RECEIVED else "event"
            batch.parked.append(Parked(row, what, event.kind.value, event.ref, event.name, event.data))
        row.status, row.ended_at = Status.RUNNING, None
        if point.kind is Kind.TIMED_OUT or (row.deadline_at is not None and row.deadline_at <= runner.now):
            row.deadline_at = None
        if row.deadline_at is not None:
            batch.timers[(row, row.deadline_at, 0, Purpose.DEADLINE)] = None
        batch.statuses[row] = None
        batch.reopened.append(row)
        self._restore_state(plan)
        for timer, due_at in _running_timers(plan).items():  # the end had removed them
            batch.timers[(row, due_at, timer, Purpose.SLEEP)] = None
        runner.work.later.append(Begin(row))
        runner.arrivals.look = True
        for child in plan.children:
            self._carry_out(child)

    def _restore_state(self, plan: Plan) -> None:
        """Take the readable state back to what it was."""
        then = dict(_state(plan.kept))
        now = self.runner.store.state(plan.row.num)
        for key in then.keys() | now.keys():
            if then.get(key) != now.get(key):
                self.runner.work.batch.state[(plan.row, key)] = then.get(key)


def _running_timers(plan: Plan) -> dict[int, int]:
    """Give the timers that run at the point to go back to: seq to due instant."""
    timers: dict[int, int] = {}
    for event in plan.kept if plan.again is None else [*plan.kept, plan.again]:
        if event.kind is Kind.TIMER_STARTED:
            timers[event.seq] = int(event.data or 0)
        elif event.kind in (Kind.TIMER_FIRED, Kind.TIMER_CANCELLED):
            timers.pop(event.ref or 0, None)
    return timers


def _state(events: list[Event]) -> Iterator[tuple[str, str | None]]:
    for event in events:
        if event.kind is Kind.INHERITED:
            inherited = msgspec.json.decode(event.data or "{}", type=Inherited)
            yield from ((key, str(raw, "utf-8")) for key, raw in inherited.state.items())
        elif event.kind is Kind.STATE_SET:
            yield event.name or "", event.data


def _turning_point(events: list[Event], stopped: bool) -> Event:
    """Find the input that a closed execution is to be taken back to.

    That is the last one before its end. But if that one only tells the end of a child which the code had cancelled,
    the cause lies where the code did that; and a time limit, or a cancellation by a parent that failed, is taken back
    as a whole.
    """
    closing = next(event for event in reversed(events) if event.kind in CLOSING)
    cut = Kind.CANCEL_REQUESTED if stopped else Kind.TIMED_OUT if _timed_out(closing) else None
    for event in events:
        if event.kind is cut:
            return event
    cancelled = {event.ref: event.seq for event in events if event.kind is Kind.CHILD_CANCEL_REQUESTED}
    point = _input_before(events, closing.seq)
    while point.kind in _CHILD_ENDS and point.ref in cancelled:
        point = _input_before(events, cancelled[point.ref])
    return point


def _input_before(events: list[Event], seq: int) -> Event:
    return next(event for event in reversed(events) if event.seq < seq and event.kind in INPUTS)


def _timed_out(closing: Event) -> bool:
    return closing.kind is Kind.FAILED and decode_failure(closing.data or "{}").type.endswith(":ExecutionTimedOut")
