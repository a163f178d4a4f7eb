"""Carrying out what workflow code asked for, inside the batch that records it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from perdure.codec import encode_failure
from perdure.engine.attempt import Attempt, Phase
from perdure.engine.inputs import Begin, Deliver
from perdure.engine.live import Live
from perdure.errors import ExecutionExists, ExecutionTerminated, InternalError
from perdure.events import Event, Kind
from perdure.replay.run import Inherited
from perdure.store import ExecutionRow, Purpose
from perdure.types import Status

if TYPE_CHECKING:
    from perdure.engine.runner import Runner

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
        self.runner.work.batch.events.extend([(row, event) for event in commands])
        for event in commands:
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
            due_at = attempt.scheduled_at + round(limit * 1e6)
            batch.cancel_timer(live.row, due_at, attempt.seq, Purpose.ACTIVITY_TIMEOUT)
        if attempt.details is not None or attempt.last is not None:
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
        existing = runner.memory.find(child.id)
        if existing is not None:
            error = ExecutionExists(f"execution {child.id} exists already", hint="give the child another id")
            runner.work.internal.append(Deliver(live.row, Kind.CHILD_FAILED, event.seq, None, encode_failure(error)))
            return
        runner.registry.learn(workflow)
        row = ExecutionRow(
            child.id,
            workflow.name,
            runner.now,
            parent_row=live.row,
            parent_seq=event.seq,
            deadline_at=None if workflow.timeout_s is None else runner.now + round(workflow.timeout_s * 1e6),
            deployment=runner.deployment,
        )
        runner.memory.add(row, [Event(1, Kind.STARTED, runner.now, None, workflow.name, bytes(child.args).decode())])
        runner.inputs.append(Begin(row))

    def _cancel_child(self, live: Live, seq: int) -> None:
        assert live.run is not None
        call = live.run.open.get(seq)
        if call is not None and call.execution_id is not None:
            self._cancel(call.execution_id, f"cancelled by its parent {live.row.id}")

    def _cancel(self, id: str, reason: str) -> None:
        row = self.runner.memory.find(id)
        if row is not None and not row.status.closed:
            data = msgspec.json.encode(reason).decode()
            self.runner.work.internal.append(Deliver(row, Kind.CANCEL_REQUESTED, None, None, data))

    def _send(self, live: Live, event: Event) -> None:
        sent = msgspec.json.decode(event.data or "", type=Sent)
        row = self.runner.memory.find(sent.to)
        if row is None or row.status.closed:
            self.runner.note_lost_signal(live, event.name or "", sent.to)
            return
        data = bytes(sent.value).decode()
        self.runner.work.internal.append(Deliver(row, Kind.SIGNAL_RECEIVED, None, event.name, data))

    # --- ending -----------------------------------------------------------------------------------------------------

    def _close(self, live: Live, event: Event) -> None:
        assert live.run is not None
        run, row = live.run, live.row
        status = _CLOSED_AS[event.kind]
        for call in list(run.open.values()):
            if call.execution_id is not None and call.target.on_parent_end == "cancel":
                self._cancel(call.execution_id, f"its parent {row.id} has ended")
        for attempt in list(live.attempts.values()):
            self.clear_timers(live, attempt)
        if event.kind is Kind.CONTINUED:
            self.runner.close(live, status, event)
            self._continue(live, event)
        else:
            self.runner.close(live, status, event)
            self.tell_parent(row, event)
        run.evict()

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
        parent = row.parent_row or (self.runner.store.get(row.parent) if row.parent else None)
        if parent is None or parent.status.closed or parent.id in self.runner.work.closed:
            return
        match event.kind:
            case Kind.COMPLETED:
                told = Deliver(parent, Kind.CHILD_COMPLETED, row.parent_seq, row.workflow, event.data)
            case Kind.CANCELLED:
                told = Deliver(parent, Kind.CHILD_CANCELLED, row.parent_seq, row.workflow)
            case Kind.FAILED:
                told = Deliver(parent, Kind.CHILD_FAILED, row.parent_seq, row.workflow, event.data)
            case _:
                error = ExecutionTerminated(f"child {row.id} was terminated")
                told = Deliver(parent, Kind.CHILD_FAILED, row.parent_seq, row.workflow, encode_failure(error))
        self.runner.work.internal.append(told)
