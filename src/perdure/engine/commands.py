"""Carrying out what workflow code asked for, inside the batch that records it."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import msgspec

from perdure.codec import encode_failure
from perdure.codec.payload import DecodeError
from perdure.engine.attempt import Attempt, Phase
from perdure.engine.inputs import Begin, Deliver
from perdure.engine.live import Live
from perdure.errors import ExecutionExists, ExecutionTerminated, InternalError
from perdure.events import Event, Kind
from perdure.replay.history import Inherited, effective
from perdure.store import ExecutionRow, Purpose
from perdure.types import Status, later

if TYPE_CHECKING:
    from perdure.engine.runner import Runner

logger = logging.getLogger("perdure.runner")

_CLOSED_AS = {
    Kind.COMPLETED: Status.COMPLETED,
    Kind.FAILED: Status.FAILED,
    Kind.CANCELLED: Status.CANCELLED,
    Kind.CONTINUED: Status.CONTINUED,
}


class ChildStart(msgspec.Struct):
    """The data of a `CHILD_STARTED` event."""

    id: str
    args: msgspec.Raw
    on_parent_end: str = "cancel"


class Sent(msgspec.Struct):
    """The data of a `SIGNAL_SENT` event."""

    to: str
    value: msgspec.Raw


class Commands:
    """Part of the runner: `runner.work` is the batch in the making."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def carry_out(self, live: Live, commands: list[Event]) -> None:
        row = live.row
        events = self.runner.work.batch.events
        for event in commands:
            events.append((row, event))
            match event.kind:
                case Kind.ACTIVITY_SCHEDULED:
                    self._schedule(live, event)
                case Kind.ACTIVITY_CANCELLED:
                    self.stop_activity(live, event.ref or 0)
                case Kind.TIMER_STARTED:
                    due_at = live.timers[event.seq] = int(event.data or 0)
                    self.runner.work.batch.timers[(row, due_at, event.seq, Purpose.SLEEP)] = None
                case Kind.TIMER_CANCELLED:
                    due = live.timers.pop(event.ref or 0, None)
                    if due is not None:
                        self.runner.work.batch.cancel_timer(row, due, event.ref or 0, Purpose.SLEEP)
                case Kind.CHILD_STARTED:
                    self._start_child(live, event)
                case Kind.CHILD_CANCEL_REQUESTED:
                    self._cancel_child(live, event.ref or 0)
                case Kind.SIGNAL_SENT:
                    self._send(live, event)
                case Kind.STATE_SET:
                    self.runner.work.batch.state[(row, event.name or "")] = event.data
                case Kind.PATCHED:
                    pass
                case Kind.COMPLETED | Kind.FAILED | Kind.CANCELLED | Kind.CONTINUED:
                    self._close(live, event)
                case _:
                    raise InternalError(f"{event} is not a command")

    # --- activities -------------------------------------------------------------------------------------------------

    def _schedule(self, live: Live, event: Event) -> None:
        assert live.run is not None
        call = live.run.open.get(event.seq)
        if call is None:
            return  # cancelled again before the code went to wait
        attempt = live.attempts[event.seq] = Attempt(live, event.seq, call.target, call.data, event.at)
        self.runner.work.starts.append(attempt)

    def stop_activity(self, live: Live, seq: int) -> None:
        """Forget an activity: stop its attempt, remove its timers."""
        attempt = live.attempts.pop(seq, None)
        if attempt is None:
            return
        self.runner.work.stops.append(attempt)
        self.clear_timers(live, attempt)

    def clear_timers(self, live: Live, attempt: Attempt) -> None:
        """Remove what the file holds for an activity beside its events."""
        batch = self.runner.work.batch
        if attempt.phase is Phase.BACKOFF and attempt.retry_at is not None:
            batch.cancel_timer(live.row, attempt.retry_at, attempt.seq, Purpose.RETRY)
        limit = attempt.activity_def.defaults.total_timeout_s
        if attempt.phase is Phase.DEFERRED and limit is not None:
            due_at = later(attempt.scheduled_at, limit)
            batch.cancel_timer(live.row, due_at, attempt.seq, Purpose.ACTIVITY_TIMEOUT)
        if attempt.details is not None or attempt.number > 1 or attempt.needs_proof:
            self.runner.arrivals.beats.pop(attempt, None)
            batch.heartbeats_done.append((live.row.num, attempt.seq))

    # --- children and other executions -------------------------------------------------------------------------------

    def _start_child(self, live: Live, event: Event) -> None:
        assert live.run is not None
        runner = self.runner
        child = msgspec.json.decode(event.data or "", type=ChildStart)
        call = live.run.open.get(event.seq)
        if call is None:
            return
        workflow = call.target
        existing = (runner.memory.find if workflow.id or runner.faults.cautious else runner.memory.known)(child.id)
        if existing is not None and not self._superseded(live.row, existing):
            error = ExecutionExists(f"execution {child.id} exists already", hint="give the child another id")
            runner.work.told.append(Deliver(live.row, Kind.CHILD_FAILED, event.seq, None, encode_failure(error)))
            return
        runner.registry.learn(workflow)
        row = ExecutionRow(
            child.id,
            workflow.name,
            runner.now,
            run=1 if existing is None else existing.run + 1,
            parent_row=live.row,
            parent_seq=event.seq,
            deadline_at=None if workflow.timeout_s is None else later(runner.now, workflow.timeout_s),
            deployment=runner.deployment,
        )
        runner.memory.add(row, [Event(1, Kind.STARTED, runner.now, None, workflow.name, bytes(child.args).decode())])
        runner.inputs.append(Begin(row))

    def _superseded(self, parent: ExecutionRow, child: ExecutionRow) -> bool:
        """Say whether `child` ended and was started by a step of `parent` that was taken back by a retry."""
        if not child.status.closed or child.parent_num is None or child.parent_num != parent.num:
            return False
        return all(event.seq != child.parent_seq for event in effective(self.runner.store.history(parent.num)))

    def _cancel_child(self, live: Live, seq: int) -> None:
        assert live.run is not None
        call = live.run.open.get(seq)
        if call is not None and call.execution_id is not None:
            row = self.runner.memory.find(call.execution_id)
            self._cancel(live, seq, row, f"cancelled by its parent {live.row.id}")

    def cancel_children(self, live: Live, reason: str) -> None:
        """Cancel the open children of an execution that ends, except those that it abandons."""
        if live.run is None:
            abandoned = self._abandoned(live.row)
            for row in self.runner.store.children(live.row.num):
                if row.parent_seq not in abandoned:
                    self._cancel(live, row.parent_seq, row, reason)
            return
        for seq, call in list(live.run.open.items()):
            if call.execution_id is not None and call.target.on_parent_end == "cancel":
                self._cancel(live, seq, self.runner.memory.find(call.execution_id), reason)

    def _abandoned(self, row: ExecutionRow) -> set[int]:
        """Read from the log of a blocked execution which children it abandons; none if it cannot be read."""
        try:
            started = (event for event in self.runner.store.history(row.num) if event.kind is Kind.CHILD_STARTED)
            found = ((event.seq, msgspec.json.decode(event.data or "", type=ChildStart)) for event in started)
            return {seq for seq, child in found if child.on_parent_end == "abandon"}
        except (DecodeError, msgspec.MsgspecError):
            return set()

    def _cancel(self, live: Live, seq: int | None, row: ExecutionRow | None, reason: str) -> None:
        """Cancel a child, unless its id turns out to belong to an execution that is not the parent's."""
        if row is None or row.status.closed or row.parent_seq != seq:
            return
        if row.parent_row is live.row or row.parent_num == live.row.num:
            data = msgspec.json.encode(reason).decode()
            self.runner.work.told.append(Deliver(row, Kind.CANCEL_REQUESTED, None, None, data))

    def _send(self, live: Live, event: Event) -> None:
        sent = msgspec.json.decode(event.data or "", type=Sent)
        row = self.runner.memory.find(sent.to)
        if row is None or row.status.closed:
            self.runner.note_lost_signal(live, event.name or "", sent.to)
            return
        data = bytes(sent.value).decode()
        self.runner.work.told.append(Deliver(row, Kind.SIGNAL_RECEIVED, None, event.name, data))

    # --- ending -----------------------------------------------------------------------------------------------------

    def _close(self, live: Live, event: Event) -> None:
        assert live.run is not None
        run, row = live.run, live.row
        status = _CLOSED_AS[event.kind]
        if status is Status.COMPLETED:
            self._warn_of_unawaited(live)
        self.cancel_children(live, f"its parent {row.id} has ended")
        for attempt in list(live.attempts.values()):
            self.clear_timers(live, attempt)
        if event.kind is Kind.CONTINUED:
            self.runner.close(live, status, event)
            self._continue(live, event)
        else:
            self.runner.close(live, status, event)
            self.tell_parent(row, event)
        run.evict()

    def _warn_of_unawaited(self, live: Live) -> None:
        names = sorted({attempt.activity for attempt in live.attempts.values()})
        if names:
            what = f"execution {live.row.id} completed while {', '.join(names)} had not ended: stopped"
            logger.warning("%s. If it was meant to end first, await it", what)

    def close_as_recorded(self, live: Live) -> None:
        """Close an execution whose closing event is in the log already."""
        assert live.run is not None
        assert live.run.closing is not None
        self.runner.close(live, _CLOSED_AS[live.run.closing.kind], live.run.closing)
        live.run.evict()

    def _continue(self, live: Live, event: Event) -> None:
        """Start the next run; the readable state and signals that nobody received go along."""
        assert live.run is not None
        runner, old, run = self.runner, live.row, live.run
        row = ExecutionRow(
            old.id,
            old.workflow,
            runner.now,
            run=old.run + 1,
            parent=old.parent,
            parent_row=old.parent_row,
            parent_seq=old.parent_seq,
            deadline_at=old.deadline_at,
            deployment=runner.deployment,
        )
        signals = [(name, msgspec.Raw(data.encode())) for name, data in run.unreceived()]
        events: list[Event] = []
        if run.state or signals:
            state = {key: msgspec.Raw(data.encode()) for key, data in run.state.items()}
            data = msgspec.json.encode(Inherited(state, signals)).decode()
            events.append(Event(1, Kind.INHERITED, runner.now, None, None, data))
        events.append(Event(len(events) + 1, Kind.STARTED, runner.now, None, old.workflow, event.data))
        state_rows = dict(run.state)
        runner.work.closed.pop(old.id, None)
        runner.memory.add(row, events)
        for key, text in state_rows.items():
            runner.work.batch.state[(row, key)] = text
        runner.inputs.append(Begin(row))

    def tell_parent(self, row: ExecutionRow, event: Event) -> None:
        """Deliver a child's end to its parent, if that still waits."""
        if row.parent_seq is None:
            return
        parent = self._parent(row)
        if parent is None or parent.id in self.runner.work.closed:
            return
        kind, data = child_end(row, event)
        if parent.status.closed:
            if self.runner.requests.reopening.is_open_again(parent):  # in this very batch: it is loaded in the next
                self.runner.put_aside(parent, Deliver(parent, kind, row.parent_seq, row.workflow, data))
                self.runner.arrivals.look = True
            return
        self.runner.work.told.append(Deliver(parent, kind, row.parent_seq, row.workflow, data))

    def _parent(self, row: ExecutionRow) -> ExecutionRow | None:
        """Find a child's parent as it is now. The row that the child came with may be from before a failed commit."""
        known = row.parent_row
        if known is not None:
            live = self.runner.memory.lives.get(known.id)
            if live is not None and live.row.run == known.run:
                return live.row
        return self.runner.memory.by_num(row.parent_num) if row.parent_num else None


def child_end(row: ExecutionRow, event: Event) -> tuple[Kind, str | None]:
    """Give the kind and data of the event by which a parent learns how its child `row` has ended."""
    match event.kind:
        case Kind.COMPLETED:
            return Kind.CHILD_COMPLETED, event.data
        case Kind.CANCELLED:
            return Kind.CHILD_CANCELLED, None
        case Kind.FAILED:
            return Kind.CHILD_FAILED, event.data
        case _:
            return Kind.CHILD_FAILED, encode_failure(ExecutionTerminated(f"child {row.id} was terminated"))
