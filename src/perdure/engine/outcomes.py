"""What follows from the end of an attempt: the activity's result, another attempt, or its failure."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.activity import attempt_var
from perdure.codec import encode_failure
from perdure.codec.payload import Payloads
from perdure.engine.attempt import Attempt, Phase
from perdure.engine.inputs import AttemptDone, AttemptStarts, Deliver, TransactionDue
from perdure.engine.live import Live
from perdure.engine.loading import AttemptNote, DeferredNote
from perdure.errors import (
    ActivityTimeout,
    AttemptInterrupted,
    FinishLater,
    InvalidValue,
    PayloadTooLarge,
    PerdureError,
    StaleToken,
    StoreError,
    TransactionLost,
)
from perdure.events import Kind
from perdure.store import Purpose, TimerRow
from perdure.types import Status, later

if TYPE_CHECKING:
    from perdure.engine.runner import Runner

_FINAL_LIMITS = ("total_timeout_s", "start_timeout_s")


class Outcomes:
    """Part of the runner: `runner.work` is the batch in the making."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._sizes = Payloads(max_bytes=runner.max_bytes)

    def handle(self, item: AttemptDone) -> None:
        found = self._current(item.attempt, item.number)
        if found is None:
            return
        live, attempt = found
        if attempt.alarms:
            attempt.disarm()
        if item.log:
            self.runner.note(live, Kind.ATTEMPT_LOG, attempt.seq, "stderr", _json(item.log))
        if isinstance(item.outcome, str):
            self.end(live, attempt, Kind.ACTIVITY_COMPLETED, item.outcome)
        elif isinstance(item.outcome, FinishLater):
            self._defer(live, attempt, item.attempt)
        elif isinstance(item.outcome, Stopped):
            self._stopped(live, attempt)
        elif isinstance(item.outcome, AttemptInterrupted):
            self._interrupted(live, attempt)
        else:
            self.failed(live, attempt, item.outcome)

    def _current(self, attempt: Attempt, number: int) -> tuple[Live, Attempt] | None:
        """Find the activity that an attempt belongs to, if that still waits for this very attempt."""
        live = attempt.live
        if self.runner.memory.lives.get(live.row.id) is not live:  # dropped after a fault, or gone
            loaded = self.runner.memory.live(live.row)
            if loaded is None:
                return None
            live = loaded
        current = live.attempts.get(attempt.seq)
        if current is None or current.number != number or current.phase is not Phase.RUNNING:
            return None
        self.runner.work.touched[live] = None  # a paused one too: if the commit fails, its memory ran ahead
        return live, current

    def end(self, live: Live, attempt: Attempt, kind: Kind, data: str) -> None:
        """Record an activity's end and let the workflow go on with it."""
        del live.attempts[attempt.seq]
        self.runner.commands.clear_timers(live, attempt)
        if live.row.status is Status.PAUSED:
            self.runner.park(live, Deliver(live.row, kind, attempt.seq, None, data))
            self.runner.settle(live)
        else:
            self.runner.advance(live, kind, attempt.seq, None, data)

    # --- failure and retry ------------------------------------------------------------------------------------------

    def failed(self, live: Live, attempt: Attempt, error: BaseException) -> None:
        """Count a failed attempt; plan the next one, or give the failure to the workflow."""
        attempt.failed += 1
        retry = attempt.activity_def.defaults.retry
        retry_at = later(self.runner.now, retry.wait_s(attempt.failed, self.runner.draw()))
        if self._is_final(attempt, error) or retry.gives_up(error, attempt.failed) or self._too_late(attempt, retry_at):
            self.end(live, attempt, Kind.ACTIVITY_FAILED, encode_failure(error))
        else:
            self._back_off(live, attempt, encode_failure(error), retry_at, "error")

    def _is_final(self, attempt: Attempt, error: BaseException) -> bool:
        if isinstance(error, ActivityTimeout):
            return error.limit in _FINAL_LIMITS
        return isinstance(error, InvalidValue | PayloadTooLarge)

    def _too_late(self, attempt: Attempt, retry_at: int) -> bool:
        options = attempt.activity_def.defaults
        limits = [limit for limit in (options.total_timeout_s, options.retry.total_s) if limit is not None]
        return bool(limits) and retry_at > later(attempt.scheduled_at, min(limits))

    def _back_off(self, live: Live, attempt: Attempt, error: str | None, retry_at: int, reason: str) -> None:
        note = AttemptNote.of(attempt, reason, error, retry_at)
        self.runner.note(live, Kind.ATTEMPT_FAILED, attempt.seq, None, _json(note))
        after = live.attempts[attempt.seq] = attempt.next()
        after.phase, after.retry_at = Phase.BACKOFF, retry_at
        self.runner.work.batch.timers[(live.row, retry_at, attempt.seq, Purpose.RETRY)] = None
        self.runner.settle(live)

    def retry_due(self, live: Live, seq: int) -> None:
        """Start the next attempt: its wait is over."""
        attempt = live.attempts.get(seq)
        if attempt is not None and attempt.phase is Phase.BACKOFF and not live.held:
            attempt.phase, attempt.from_log = Phase.READY, False  # not started before: only now it is due
            self.runner.work.starts.append(attempt)
            self.runner.settle(live)

    def _stopped(self, live: Live, attempt: Attempt) -> None:
        """The engine closes: the attempt was cancelled for that, and the next runner starts another one."""
        self.runner.note(live, Kind.ATTEMPT_FAILED, attempt.seq, None, _json(AttemptNote.of(attempt, "stopped")))
        live.attempts[attempt.seq] = attempt.next()

    def recovered(self, live: Live, before: Status) -> None:
        """Start what should be running in an execution that was just loaded, `before` being what its row said.

        An attempt that ran when its process died counts as interrupted.
        """
        if live.held:
            return
        self.arm_totals(live)
        for attempt in list(live.attempts.values()):
            if live.row.status.closed or live.attempts.get(attempt.seq) is not attempt:
                continue  # the failure of one that may not be interrupted again has ended it
            if attempt.phase in (Phase.RUNNING, Phase.DEFERRED) or self._waits(live, attempt):
                continue
            interrupted = self._may_have_run(live, attempt, before)
            attempt.phase, attempt.from_log = Phase.READY, False
            if interrupted:
                self._interrupted(live, attempt)
            else:
                self.runner.work.starts.append(attempt)

    def _may_have_run(self, live: Live, attempt: Attempt, before: Status) -> bool:
        """Say whether an attempt that is not known to run may have been started by a process that is gone."""
        if attempt.needs_proof:
            return attempt.proved
        if before is Status.RUNNING:
            return True
        if not attempt.from_log or before not in (Status.PAUSED, Status.BLOCKED):
            return False
        if attempt.phase is Phase.BACKOFF and live.paused_at is not None:
            return (attempt.retry_at or 0) <= live.paused_at  # due before it was paused: started then; later: held back
        return True

    def _waits(self, live: Live, attempt: Attempt) -> bool:
        """Say whether the wait of an attempt is not over: its timer goes in the transaction that lets it start."""
        if attempt.phase is not Phase.BACKOFF or attempt.retry_at is None:
            return False
        batch = self.runner.work.batch
        timer = TimerRow(attempt.retry_at, live.row.num, attempt.seq, Purpose.RETRY)
        if timer in batch.timers_done:  # it fell due in this very batch, when the execution was still held
            return False
        begun = (live.row, attempt.retry_at, attempt.seq, Purpose.RETRY) in batch.timers
        return begun or self.runner.store.has_timer(timer)

    def _interrupted(self, live: Live, attempt: Attempt) -> None:
        attempt.interrupted += 1
        retry = attempt.activity_def.defaults.retry
        if attempt.interrupted > retry.interruptions:
            error = AttemptInterrupted(
                f"{attempt.activity}: the process died {attempt.interrupted} times while it ran",
                hint="see whether the activity kills its process; Retry(interruptions=…) sets how often it may",
            )
            self.end(live, attempt, Kind.ACTIVITY_FAILED, encode_failure(error))
            return
        again = attempt.interrupted - 1
        wait_s = retry.wait_s(again, self.runner.draw()) if again else 0.0
        self._back_off(live, attempt, None, later(self.runner.now, wait_s), "interrupted")

    def starts(self, item: AttemptStarts) -> None:
        """Put into the file that an attempt starts, before it does."""
        found = self._current(item.attempt, item.number)
        if found is not None:
            live, attempt = found
            self.runner.work.batch.heartbeats[(live.row.num, attempt.seq)] = (attempt.number, self.runner.now, None)
        self.runner.work.goes.append(item.go)

    # --- completion from outside -------------------------------------------------------------------------------------

    def _defer(self, live: Live, attempt: Attempt, running: Attempt) -> None:
        if running.secret_hash is None:
            _ = running.token  # nobody asked for it, so only the time limit can end the activity
        attempt.secret_hash = running.secret_hash
        attempt.phase = Phase.DEFERRED
        note = DeferredNote(attempt.number, attempt.secret_hash or "")
        self.runner.note(live, Kind.ATTEMPT_DEFERRED, attempt.seq, None, _json(note))
        self._arm_total(live, attempt)
        self.runner.settle(live)

    def arm_totals(self, live: Live) -> None:
        """Set the timers of deferred activities, which may have fired in vain while the execution was blocked."""
        for attempt in live.attempts.values():
            if attempt.phase is Phase.DEFERRED:
                self._arm_total(live, attempt, again=True)

    def _arm_total(self, live: Live, attempt: Attempt, again: bool = False) -> None:
        limit = attempt.activity_def.defaults.total_timeout_s
        if limit is not None:
            due_at = later(attempt.scheduled_at, limit)
            self.runner.work.batch.timers[(live.row, due_at, attempt.seq, Purpose.ACTIVITY_TIMEOUT)] = again

    def complete(self, live: Live, seq: int, number: int, proof: str, data: str, failed: bool) -> None:
        """End an activity from outside. Raises `StaleToken`, or `InvalidValue` for a result of the wrong type."""
        attempt = live.attempts.get(seq)
        if attempt is None or not attempt.owns(number, proof):
            raise StaleToken(
                f"this token belongs to no open attempt of {live.row.id}",
                hint="the activity was completed already, timed out, or has a newer attempt with a token of its own",
            )
        if not failed:
            attempt.activity_def.returns.decode(data)
        self.runner.work.stops.append(attempt)  # also one that this batch is about to start
        self.end(live, attempt, Kind.ACTIVITY_FAILED if failed else Kind.ACTIVITY_COMPLETED, data)

    def total_timeout(self, live: Live, seq: int) -> None:
        """Fail a deferred activity whose total time is over."""
        attempt = live.attempts.get(seq)
        if attempt is not None and attempt.phase is Phase.DEFERRED:
            limit = attempt.activity_def.defaults.total_timeout_s
            error = ActivityTimeout(f"{attempt.activity} was not completed within {limit} s", limit="total_timeout_s")
            self.end(live, attempt, Kind.ACTIVITY_FAILED, encode_failure(error))

    # --- transactional activities -------------------------------------------------------------------------------------

    def run_transaction(self, item: TransactionDue) -> None:
        """Run a transactional activity in the transaction that will hold its result."""
        found = self._current(item.attempt, item.number)
        if found is None:
            return
        live, attempt = found
        if live.held:
            # it runs once its end can be recorded with it: in the inbox that could be lost, and the effect stay
            attempt.phase = Phase.READY
            return
        if item.lost is not None:
            self.failed(live, attempt, item.lost)
            return
        activity = attempt.activity_def
        try:
            with self.runner.store.savepoint() as transaction:
                args, kwargs = activity.arguments.call_args(attempt.data)
                value = contextvars.copy_context().run(_call, attempt, activity.fn, transaction, args, kwargs)
                data = activity.returns.check(value)
                self._sizes.check_size(data)
        except TransactionLost as error:  # the batch is handled again, all but this
            item.lost = error
            raise
        except (StoreError, KeyboardInterrupt):
            raise
        except FinishLater:
            hint = "a transactional activity ends with its transaction: let another activity wait for the outside"
            self.failed(live, attempt, PerdureError(f"{activity.name} cannot finish_later()", hint=hint))
        except BaseException as error:  # whatever it raises must not stop the runner
            self.failed(live, attempt, error)
        else:
            self.end(live, attempt, Kind.ACTIVITY_COMPLETED, data)


def _call(attempt: Attempt, fn: Any, transaction: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    attempt_var.set(attempt)
    return fn(transaction, *args, **kwargs)


class Stopped(BaseException):
    """The outcome of an attempt that was cancelled because the engine closes."""


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()
