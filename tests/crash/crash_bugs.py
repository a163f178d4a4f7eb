"""Bugs to plant in a worker, so that a test can see the torture find them. `PERDURE_CRASH_BUG` names one."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from typing import Any

import perdure.engine.outcomes
from perdure.engine.attempt import Attempt, Phase
from perdure.engine.inputs import Start
from perdure.engine.requests import Requests
from perdure.engine.runner import Runner
from perdure.replay import Run
from perdure.store import Batch, ExecutionRow
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.writer import Writer

_choose = random.Random(1)


def plant() -> None:
    name = os.environ.get("PERDURE_CRASH_BUG")
    if name:
        BUGS[name]()


def start_before_commit() -> None:
    """Start attempts before the transaction that schedules them is committed."""
    handle_all = Runner._handle_all

    def handle(self: Runner, work: Any, limit: int) -> None:
        handle_all(self, work, limit)
        for attempt in work.starts:
            if attempt.phase is Phase.READY and not attempt.ended and attempt.live.row.num:
                attempt.phase = Phase.RUNNING
                self.effects.start(attempt)
        time.sleep(0.002)

    Runner._handle_all = handle  # type: ignore[method-assign]


def forget_starts() -> None:
    """Tell a caller that an execution is started, and start nothing."""
    start = Requests.start

    def forget(self: Requests, item: Start) -> None:
        if item.id.startswith("shared") or _choose.random() < 0.7:
            start(self, item)
        else:
            self.runner.work.reply(item.reply, ExecutionRow(item.id, item.workflow, self.runner.now))

    Requests.start = forget  # type: ignore[method-assign]


def apply_twice() -> None:
    """Run a transactional activity twice in its transaction."""
    call = perdure.engine.outcomes._call

    def twice(*args: Any) -> Any:
        if _choose.random() < 0.3:
            call(*args)
        return call(*args)

    perdure.engine.outcomes._call = twice


def _in_commit(change: Callable[[Batch], None]) -> Callable[[], None]:
    def plant() -> None:
        commit = SqliteStore.commit

        def changed(self: SqliteStore, batch: Batch) -> None:
            if _choose.random() < 0.1:
                change(batch)
            commit(self, batch)

        SqliteStore.commit = changed  # type: ignore[method-assign]

    return plant


def ignore_epoch() -> None:
    """Let a runner that was replaced write on."""

    def execute(self: Any) -> None:
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")

    Writer._begin = execute  # type: ignore[method-assign]


def unstable_key() -> None:
    """Give every attempt an idempotency key of its own."""
    Attempt.idempotency_key = property(  # type: ignore[assignment,method-assign]
        lambda self: f"{self.live.row.id}:{self.live.row.run}:{self.seq + self.number - 1}"
    )


def forget_interruptions() -> None:
    """Do not count attempts that died with their process: a number is used twice."""
    perdure.engine.outcomes.Outcomes._may_have_run = lambda *args: False  # type: ignore[method-assign]


def draw_anew() -> None:
    """Give workflows random numbers that replay does not repeat."""
    Run.random = property(lambda self: _choose)  # type: ignore[assignment,method-assign]


BUGS: dict[str, Callable[[], None]] = {
    "start before commit": start_before_commit,
    "forget starts": forget_starts,
    "apply twice": apply_twice,
    "forget timers": _in_commit(lambda batch: batch.timers.clear()),
    "forget state": _in_commit(lambda batch: batch.state.clear()),
    "forget statuses": _in_commit(lambda batch: batch.statuses.clear()),
    "forget requests": _in_commit(lambda batch: batch.parked.clear()),
    "take requests twice": _in_commit(lambda batch: batch.inbox_done.clear()),
    "unstable key": unstable_key,
    "forget interruptions": forget_interruptions,
    "ignore epoch": ignore_epoch,
    "draw anew": draw_anew,
}
