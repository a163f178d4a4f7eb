"""Bugs put into the engine on purpose, each with the rule that it breaks. The simulation must find every one of them.

Some were real, before the simulation found them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from perdure.client import remote
from perdure.engine import requests
from perdure.engine.arrivals import Arrivals
from perdure.engine.attempt import Attempt, Phase
from perdure.engine.commands import Commands
from perdure.engine.faults import Faults
from perdure.engine.inputs import Input
from perdure.engine.memory import Memory
from perdure.engine.outcomes import Outcomes
from perdure.engine.runner import Runner
from perdure.engine.work import Work
from perdure.replay import Run
from perdure.store import Batch, ExecutionRow, TimerRow
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.fence import SqliteTransaction
from perdure.store.sqlite.writer import Writer
from perdure.types import Status
from simulation.options import Options

Plant = Callable[[], AbstractContextManager[Any]]


def _nothing(*_: Any) -> None:
    return None


def effects_before_the_commit() -> AbstractContextManager[Any]:
    """Attempts start, and callers are answered, before what led to it is committed."""
    handle_all = Runner._handle_all

    def early(self: Runner, work: Work, limit: int) -> None:
        handle_all(self, work, limit)
        self.effects.let_out(work)

    return mock.patch.object(Runner, "_handle_all", early)


def answers_before_the_commit() -> AbstractContextManager[Any]:
    """Callers are answered while the batch is made."""

    def reply(self: Work, future: asyncio.Future[Any] | None, value: Any = None) -> None:
        if future is not None and not future.done():
            future.set_exception(value) if isinstance(value, BaseException) else future.set_result(value)

    return mock.patch.object(Work, "reply", reply)


def no_epoch() -> AbstractContextManager[Any]:
    """A runner that was replaced goes on writing."""
    return mock.patch.object(Writer, "_refuse_stale", _nothing)


def stale_answers() -> AbstractContextManager[Any]:
    """A runner that was replaced answers from its memory as long as it has nothing to write."""
    return mock.patch.object(SqliteStore, "confirm", _nothing)


def timers_dropped_by_failed_commits() -> AbstractContextManager[Any]:
    """A timer that fell due in a batch whose commit failed never comes again."""
    due_timers, given = SqliteStore.due_timers, set[tuple[int, TimerRow]]()

    def once(self: SqliteStore, now: int, limit: int) -> list[TimerRow]:
        found = [timer for timer in due_timers(self, now, limit) if (id(self), timer) not in given]
        given.update((id(self), timer) for timer in found)
        return found

    return mock.patch.object(SqliteStore, "due_timers", once)


def requests_dropped_by_failed_commits() -> AbstractContextManager[Any]:
    """What was read from the inbox for a batch whose commit failed is not read again."""
    again = Arrivals.again

    def forget(self: Arrivals) -> None:
        seen = self.seen
        again(self)
        self.seen = seen

    return mock.patch.object(Arrivals, "again", forget)


def inputs_dropped_by_failed_commits() -> AbstractContextManager[Any]:
    """What attempts gave is dropped with the batch whose commit failed."""

    def undo(self: Faults, item: Input, error: BaseException | None, again: list[Input]) -> None:
        kept: list[Input] = []
        original(self, item, error, kept)
        again.extend(item for item in kept if not hasattr(item, "outcome"))

    original = Faults._undo
    return mock.patch.object(Faults, "_undo", undo)


def attempts_forgotten_by_failed_commits() -> AbstractContextManager[Any]:
    """An execution that is loaded again does not know of its running attempts."""
    return mock.patch.object(Memory, "salvage", _nothing)


def signals_not_inherited() -> AbstractContextManager[Any]:
    """Signals that nobody received are lost when an execution continues as new."""
    return mock.patch.object(Run, "unreceived", return_value=())


@contextmanager
def two_runs_at_once() -> Iterator[None]:
    """A start under an id that is taken makes a new run."""

    def next_run(existing: ExecutionRow | None, *_: Any) -> int:
        return 1 if existing is None else existing.run + 1

    with mock.patch.object(remote, "next_run", next_run), mock.patch.object(requests, "next_run", next_run):
        yield


def attempts_not_counted() -> AbstractContextManager[Any]:
    """An attempt that died with its process is started again as if it had never run."""
    return mock.patch.object(Outcomes, "_may_have_run", return_value=False)


def starts_without_proof() -> AbstractContextManager[Any]:
    """That an attempt starts is not written down, though it is to run at most once."""
    return mock.patch.object(Attempt, "needs_proof", property(lambda self: False))


def no_second_look() -> AbstractContextManager[Any]:
    """What a lost ring left in the file is never looked for."""
    return mock.patch.object(Runner, "tick", _nothing)


def statuses_lag() -> AbstractContextManager[Any]:
    """The row of an execution does not say that attempts run, so nobody takes it up after a crash."""

    def settle(self: Runner, live: Any) -> None:
        self.memory.used(live)

    return mock.patch.object(Runner, "settle", settle)


def commands_out_of_order() -> AbstractContextManager[Any]:
    """Two commands of one answer are recorded the wrong way round."""
    carry_out = Commands.carry_out

    def swapped(self: Commands, live: Any, commands: list[Any]) -> None:
        carry_out(self, live, commands)
        events = self.runner.work.batch.events
        if len(commands) == 2 and commands[0].kind == commands[1].kind:
            (row, one), (_, two) = events[-2:]
            events[-2:] = [(row, _at(two, one.seq)), (row, _at(one, two.seq))]

    return mock.patch.object(Commands, "carry_out", swapped)


def _at(event: Any, seq: int) -> Any:
    return type(event)(seq, event.kind, event.at, event.ref, event.name, event.data)


def transactions_half_done() -> AbstractContextManager[Any]:
    """What a transactional activity writes is committed apart from its end."""
    execute = SqliteTransaction.execute

    def at_once(self: SqliteTransaction, sql: str, parameters: Any = ()) -> Any:
        found = execute(self, sql, parameters)
        assert self._connection is not None
        self._connection.execute("RELEASE activity")
        self._connection.execute("COMMIT")
        self._connection.execute("BEGIN IMMEDIATE")
        self._connection.execute("SAVEPOINT activity")
        return found

    return mock.patch.object(SqliteTransaction, "execute", at_once)


def inbox_left_behind() -> AbstractContextManager[Any]:
    """What waits for a paused execution is stuck when that continues as new before it was all delivered."""
    unpark = Arrivals.unpark

    def first_only(self: Arrivals, live: Any) -> None:
        handle = self.runner.handle

        def while_open(item: Input) -> None:
            if self.runner.memory.lives.get(live.row.id) is live:
                handle(item)

        with mock.patch.object(self.runner, "handle", while_open):
            unpark(self, live)

    return mock.patch.object(Arrivals, "unpark", first_only)


def timers_left_behind() -> AbstractContextManager[Any]:
    """A timer that is inserted again cannot be deleted in the same batch."""

    def cancel_timer(self: Batch, row: ExecutionRow, due_at: int, seq: int, purpose: int) -> None:
        key = (row, due_at, seq, purpose)
        if key in self.timers:
            del self.timers[key]
        elif row.num:
            self.timers_done.append((due_at, row.num, seq, purpose))

    return mock.patch.object(Batch, "cancel_timer", cancel_timer)


def blocked_attempts_forgotten() -> AbstractContextManager[Any]:
    """An attempt after another one that ran when its process died is forgotten if the next code does not fit."""
    may_have_run = Outcomes._may_have_run

    def only_when_paused(self: Outcomes, live: Any, attempt: Attempt, before: Any) -> bool:
        unknown = attempt.phase is Phase.BACKOFF and before is Status.BLOCKED and live.paused_at is None
        return not unknown and may_have_run(self, live, attempt, before)

    return mock.patch.object(Outcomes, "_may_have_run", only_when_paused)


def retries_without_a_look() -> AbstractContextManager[Any]:
    """A failed execution is reopened although another process has replaced it meanwhile."""
    return mock.patch.object(Batch, "reopened", property(lambda self: [], _nothing))


PLANTS: list[Plant] = [
    effects_before_the_commit,
    answers_before_the_commit,
    no_epoch,
    stale_answers,
    timers_dropped_by_failed_commits,
    requests_dropped_by_failed_commits,
    inputs_dropped_by_failed_commits,
    attempts_forgotten_by_failed_commits,
    signals_not_inherited,
    two_runs_at_once,
    attempts_not_counted,
    starts_without_proof,
    no_second_look,
    statuses_lag,
    commands_out_of_order,
    transactions_half_done,
    inbox_left_behind,
    timers_left_behind,
    blocked_attempts_forgotten,
    retries_without_a_look,
]

SUITED: dict[Plant, Callable[[Options], bool]] = {
    timers_dropped_by_failed_commits: lambda options: "fail" in options.rates or "outage" in options.rates,
    starts_without_proof: lambda options: "crash" in options.rates or "die" in options.rates,
    no_second_look: lambda options: "lost ring" in options.rates,
    blocked_attempts_forgotten: lambda options: options.deploys,
    retries_without_a_look: lambda options: options.rivals,
}
"""Which seeds can show a rare one; the others would only take time."""
