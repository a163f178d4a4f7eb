"""When a batch fails: memory that ran ahead is dropped, and it is found out what failed, the store or one execution.

1. Nothing of the batch was written. What attempts gave happened in the world and is handled again; what callers asked
   is refused, or handled again where they are not to blame.
2. When the store failed, everything is tried again after a wait.
3. When anything else did, inputs are taken one by one until the culprit is met; its execution is set aside, so that the
   others go on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, assert_never

from perdure.engine.inputs import (
    AttemptDone,
    AttemptStarts,
    Begin,
    Deliver,
    Input,
    Request,
    Start,
    TransactionDue,
    row_of,
)
from perdure.engine.work import Work
from perdure.errors import ExecutionExists, RowRefused, StoreError

if TYPE_CHECKING:
    from perdure.engine.runner import Runner

logger = logging.getLogger("perdure.runner")

COLLISIONS = 20
"""So often in a row an id may be taken by another process first; then it is something else that is wrong."""
WAIT_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


class Faults:
    """Part of the runner. `on_fault` hears of each failure of the store, on the loop's thread."""

    def __init__(self, runner: Runner, on_fault: Callable[[BaseException], None]) -> None:
        self.runner = runner
        self.on_fault = on_fault
        self.count = 0
        """How many batches in a row could not be written."""
        self.last: StoreError | None = None
        """What the last commit failed on; None when it did not."""
        self.suspects = 0
        """How many batches are to take one input only: one of those that were taken breaks the commit."""
        self.cautious = False
        """Whether to look even ids that were made up here up in the file: the last batch met one that is taken."""
        self._collisions = 0

    @property
    def wait_s(self) -> float | None:
        """How long to wait before the next try; None when nothing failed."""
        return WAIT_S[min(self.count, len(WAIT_S)) - 1] if self.count else None

    def passed(self, alone: bool) -> None:
        """Note that a batch was written; `alone` says that it was to have one input only."""
        self.count, self.last, self.cautious = 0, None, False
        if not alone:
            self._collisions = 0

    def stumbled(self, work: Work, error: Exception, handled: bool, alone: bool) -> None:
        """Find out what a batch failed on; `handled` says that all its inputs were, and so the commit failed."""
        many = len(work.taken) + len(work.timers)
        if isinstance(error, ExecutionExists) and self._collisions < COLLISIONS:
            self._collisions += 1  # another process was faster with an id, or one made up is taken: look again
            self.cautious = True
            self.drop(work, None)
        elif isinstance(error, StoreError) and not isinstance(error, RowRefused):
            self.drop(work, error)
            self.count += 1
            self.last = error
            logger.error("a commit failed, nothing acknowledged is lost: %s", error)
            self.runner.loop.call_soon_threadsafe(self.on_fault, error)
        elif handled and many > 1 and not alone:
            self.suspects = many
            self.drop(work, None)
        else:
            self._set_aside(work, error, self._culprit(work, handled))

    def drop(self, work: Work, error: BaseException | None, culprit: Input | None = None) -> None:
        """Drop the memory that ran ahead; keep what happened in the world, refuse what callers asked: all of them, or
        only the `culprit`. Without an error nobody is refused, and everything is handled again."""
        runner = self.runner
        runner.store.rollback()
        for row in work.batch.executions:
            row.num = 0
        for attempt in work.stops:  # they were not stopped
            runner.memory.salvage(attempt)
        for live in work.touched:
            runner.memory.drop(live)
        again: list[Input] = []
        for item in work.taken:
            self._undo(item, error if culprit is None or item is culprit else None, again)
        runner.inputs.extendleft(reversed(again))
        runner.arrivals.again()

    def _culprit(self, work: Work, handled: bool) -> Input | None:
        """Give the input that a batch failed on: the last one, or, when the commit refused it, the only one. A timer
        that is taken alone, or before any input, stands for its execution."""
        row = work.timers[-1] if handled and work.timers else self.runner.arrivals.subject
        if row is not None and (handled or not work.taken):
            return Begin(row)
        return work.taken[0 if handled else -1] if work.taken else None

    def _set_aside(self, work: Work, error: Exception, culprit: Input | None) -> None:
        """Block the execution that the runner itself stumbled over, so that the others go on."""
        if culprit is None:
            self.count += 1  # nobody to set aside: the next try waits
            shown = None if self.runner.private else error
            logger.error("the runner failed; please report this", exc_info=shown)
        elif not isinstance(culprit, Start):  # a start is refused, and nothing is left of it
            self.runner.memory.poison(row_of(culprit).id, error)
            if isinstance(culprit, Deliver | Request) and culprit.inbox is not None:
                self.runner.arrivals.spoiled.add(culprit.inbox)
        self.drop(work, error, culprit)

    def _undo(self, item: Input, error: BaseException | None, again: list[Input]) -> None:
        runner = self.runner
        if isinstance(item, Deliver | Request) and item.inbox is not None:
            runner.arrivals.queued.discard(item.inbox)  # it is still in the file, and read again from there
        match item:
            case AttemptDone() | AttemptStarts() | TransactionDue():
                row = item.attempt.live.row
                runner.memory.salvaged.setdefault(row.id, {})[item.attempt.seq] = (item.number, item.attempt)
                again.append(item)
            case Begin():
                again.append(item)
            case Start() | Deliver() | Request():
                if item.reply is not None and error is None:
                    again.append(item)
                elif item.reply is not None and error is not None:
                    runner.loop.call_soon_threadsafe(refuse, item.reply, error)
            case _:
                assert_never(item)


def refuse(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
