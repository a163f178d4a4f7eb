"""What people ask of executions: start, cancel, terminate, pause, resume, retry, complete from outside."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perdure.client.token import Token
from perdure.codec.payload import DecodeError
from perdure.conflict import next_run
from perdure.engine.inputs import Deliver, Request, Start
from perdure.engine.live import Live
from perdure.engine.reopening import Reopening
from perdure.errors import (
    ExecutionClosed,
    InternalError,
    PerdureError,
    StaleToken,
)
from perdure.events import LAST_SEQ, Event, Kind
from perdure.store import ExecutionRow, Parked
from perdure.types import Status

if TYPE_CHECKING:
    from perdure.engine.runner import Runner

logger = logging.getLogger("perdure.runner")


class Requests:
    """Part of the runner: `runner.work` is the batch in the making."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.reopening = Reopening(runner)

    def start(self, item: Start) -> None:
        runner = self.runner
        try:
            workflow = runner.registry.get(item.workflow)
            existing = None if item.new else runner.memory.find(item.id)
            run = 1
            if existing is not None:
                if existing.status.closed and self.reopening.is_open_again(existing):
                    existing.status = Status.RUNNING
                recorded = self._input(existing)
                same = existing.workflow == item.workflow and workflow.arguments.same(recorded or "{}", item.data)
                number = next_run(existing, same, item.id, item.conflict)
                if number is None:
                    runner.work.reply(item.reply, existing)
                    return
                run = number
        except PerdureError as error:
            runner.work.reply(item.reply, error)
            return
        row = ExecutionRow(
            item.id,
            item.workflow,
            runner.now,
            run=run,
            deadline_at=None if item.timeout_us is None else runner.now + item.timeout_us,
            deployment=runner.deployment,
        )
        runner.work.closed.pop(item.id, None)
        live = runner.memory.add(row, [Event(1, Kind.STARTED, runner.now, None, item.workflow, item.data)])
        runner.memory.live(live.row)
        runner.work.reply(item.reply, row)

    def _input(self, row: ExecutionRow) -> str | None:
        """Give the input that an execution was first started with, also if this batch is only about to write it."""
        if row.num:
            return self.runner.store.first_input(row.num)
        for other, event in self.runner.work.batch.events:
            if other.id == row.id and event.kind is Kind.STARTED:
                return event.data
            if other.id == row.id and event.kind is Kind.CONTINUED:
                return self.runner.store.first_input(other.num)
        return None

    def handle(self, item: Request) -> None:
        if item.inbox is not None:
            self.runner.work.batch.inbox_done.append(item.inbox)
        try:
            self._handle(item)
        except PerdureError as error:
            if item.reply is None:
                logger.warning("%s of %s refused: %s", item.what, item.row.id, error)
            self.runner.work.reply(item.reply, error)
        else:
            self.runner.work.reply(item.reply)

    def _handle(self, item: Request) -> None:
        if item.what == "retry":
            self._retry(item)
            return
        live = self.runner.memory.live(item.row)
        if live is None and item.what not in ("complete", "fail"):
            live = self.runner.memory.continuation(item.row)
        if live is None:
            if item.what in ("complete", "fail"):
                raise StaleToken(
                    f"execution {item.row.id} has ended", hint="nothing waits for this completion any more"
                )
            raise ExecutionClosed(f"execution {item.row.id} has ended", hint="it takes no more requests")
        match item.what:
            case "cancel":
                self._cancel(live, item)
            case "terminate":
                self._terminate(live, item.data)
            case "pause":
                self._pause(live, item.data)
            case "resume":
                self._resume(live)
            case "complete" | "fail":
                self._complete(live, item)
            case _:
                raise InternalError(f"unknown request {item.what}")

    def _cancel(self, live: Live, item: Request) -> None:
        if live.row.status is Status.PAUSED:
            self._resume(live)
        self.runner.work.told.append(Deliver(live.row, Kind.CANCEL_REQUESTED, None, None, item.data or "null"))

    def _complete(self, live: Live, item: Request) -> None:
        token = Token.parse(item.name or "")
        if token is None:
            raise StaleToken("this is not a completion token")
        if live.run is None:  # blocked: it is looked at once the code fits
            self.runner.work.batch.parked.append(Parked(live.row, item.what, None, None, item.name, item.data))
            return
        self.runner.outcomes.complete(
            live, token.seq, token.number, token.proof, item.data or "null", item.what == "fail"
        )

    # --- terminate --------------------------------------------------------------------------------------------------

    def _terminate(self, live: Live, reason: str | None) -> None:
        """End an execution at once: no code of it runs any more. Its children are cancelled."""
        runner, row = self.runner, live.row
        if live.run is not None:
            seq = live.run.seq + 1
        else:
            last, live.last_at = self._tip(row)
            seq = last + 1
        live.last_at = max(live.last_at, runner.now)
        event = Event(seq, Kind.TERMINATED, live.last_at, None, None, reason or "null")
        if seq <= LAST_SEQ:  # else no number is left
            runner.work.batch.events.append((row, event))
        runner.work.touched[live] = None
        runner.commands.cancel_children(live, f"its parent {row.id} was terminated")
        for attempt in list(live.attempts.values()):
            runner.commands.clear_timers(live, attempt)
        row.problem, held = None, live.held
        runner.close(live, Status.TERMINATED, event)
        runner.commands.tell_parent(row, event)
        if held:
            runner.arrivals.unpark(live)
        if live.run is not None:
            live.run.evict()

    def _tip(self, row: ExecutionRow) -> tuple[int, int]:
        """Give seq and instant of the last event of an execution, which may be one that cannot be read."""
        store = self.runner.store
        try:
            last = store.last_event(row.num)
        except DecodeError:
            info = store.describe(row.id, row.run)
            return (info.events if info is not None else 0), 0
        return (last.seq, last.at) if last is not None else (0, 0)

    # --- pause and resume -------------------------------------------------------------------------------------------

    def _pause(self, live: Live, reason: str | None) -> None:
        if live.row.status is Status.PAUSED:
            return
        if live.run is None:
            raise PerdureError(f"execution {live.row.id} is blocked already: {live.row.problem}")
        self.runner.note(live, Kind.PAUSED, None, None, reason or "null")
        live.paused_at = live.last_at
        live.row.status = Status.PAUSED
        self.runner.work.batch.statuses[live.row] = None
        self.runner.settle(live)

    def _resume(self, live: Live) -> None:
        if live.row.status is not Status.PAUSED:
            return
        runner = self.runner
        runner.note(live, Kind.RESUMED)
        live.row.status = Status.WAITING
        runner.work.batch.statuses[live.row] = None
        runner.run_first(live)
        runner.arrivals.unpark(live)
        if runner.memory.lives.get(live.row.id) is live:
            runner.outcomes.recovered(live, Status.PAUSED)
            runner.settle(live)

    # --- retry ------------------------------------------------------------------------------------------------------

    def _retry(self, item: Request) -> None:
        row = self.runner.memory.find(item.row.id)
        again = row is not None and self.reopening.is_open_again(row)
        if row is None or row.status is not Status.FAILED or row.id in self.runner.work.closed or again:
            status = "unknown" if row is None else Status.RUNNING if again else row.status
            raise PerdureError(
                f"execution {item.row.id} is {status}, not failed", hint="only a failed one can be retried"
            )
        self.reopening.reopen(row)
