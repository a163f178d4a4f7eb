"""Letting the effects of a committed batch out: callers are answered, attempts start. Never before the commit.

An attempt whose durability is `replicated` is held back until the replica has what led to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from perdure.engine.attempt import Attempt, Phase
from perdure.engine.inputs import AttemptDone
from perdure.engine.outcomes import Stopped
from perdure.engine.replicator import Stream
from perdure.engine.work import Work
from perdure.errors import NotReplicated
from perdure.events import Event
from perdure.store import ExecutionRow
from perdure.types import Durability

if TYPE_CHECKING:
    from perdure.engine.runner import Runner


class Effects:
    """Part of the runner; everything here happens on the loop's thread. `start` lets an attempt run, `on_closed` hears
    of executions that ended."""

    def __init__(
        self,
        runner: Runner,
        start: Callable[[Attempt], None],
        on_closed: Callable[[dict[str, tuple[ExecutionRow, Event | None]]], None],
        stream: Stream | None,
        durability: Durability,
    ) -> None:
        self.runner = runner
        self.start = start
        self.on_closed = on_closed
        self.stream = stream
        self.durability = durability

    def let_out(self, work: Work) -> None:
        """Callers hear first: an attempt may answer at once, and the next commit then comes before anything else on
        the loop."""
        for attempt in work.stops:
            attempt.abandon()
        if work.closed:
            self.on_closed(work.closed)
        for future, value in work.replies:
            if future.done():
                continue
            if isinstance(value, BaseException):
                future.set_exception(value)
            else:
                future.set_result(value)
        self._start_all(work.starts if self.stream is None else self._hold_back(self.stream, work))
        for go in work.goes:
            go()

    def _start_all(self, attempts: Iterable[Attempt]) -> None:
        runner = self.runner
        for attempt in attempts:
            if attempt.phase is not Phase.READY or attempt.ended:
                continue
            attempt.phase = Phase.RUNNING
            if runner.draining:
                runner.submit(AttemptDone(attempt, attempt.number, Stopped()))
                continue
            try:
                self.start(attempt)
            except Exception as error:  # no thread or process to be had, for example
                runner.submit(AttemptDone(attempt, attempt.number, error))

    def _hold_back(self, stream: Stream, work: Work) -> list[Attempt]:
        """Give the attempts that may start now; the others start once the replica has what led to them."""
        held = [attempt for attempt in work.starts if self._waits_for_replica(attempt)]
        if held:
            stream.when_replicated(work.commit, lambda arrived: self._release(held, arrived))
        return [attempt for attempt in work.starts if attempt not in held] if held else work.starts

    def _waits_for_replica(self, attempt: Attempt) -> bool:
        run = attempt.live.run
        return (
            self.durability is Durability.REPLICATED
            or attempt.activity_def.defaults.durability is Durability.REPLICATED
            or (run is not None and run.workflow.durability is Durability.REPLICATED)
        )

    def _release(self, held: list[Attempt], arrived: bool) -> None:
        """Start attempts that waited for the replica. When that was in vain, each fails: its retry waits again."""
        if arrived or self.runner.draining:
            self._start_all(held)
            return
        for attempt in held:
            if attempt.phase is Phase.READY and not attempt.ended:
                attempt.phase = Phase.RUNNING
                error = NotReplicated(f"{attempt.activity} did not start: what led to it is not in the replica in time")
                self.runner.submit(AttemptDone(attempt, attempt.number, error))
