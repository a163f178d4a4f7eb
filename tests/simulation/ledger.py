"""What happened outside the file: attempts that ran, and what they did there. The auditor compares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from perdure import Attempt, current_attempt
from simulation.process import Process
from simulation.scheduler import Scheduler
from simulation.timeline import Timeline

if TYPE_CHECKING:
    from simulation.auditor import Auditor


class Ledger:
    """See the module. `asked` hears of activities that wait for an answer from outside: (token, key)."""

    def __init__(
        self, scheduler: Scheduler, auditor: Auditor, timeline: Timeline, asked: Callable[[str, str], None]
    ) -> None:
        self.scheduler = scheduler
        self.auditor = auditor
        self.timeline = timeline
        self.asked = asked
        self.started: dict[tuple[str, int, int], Process] = {}
        """Attempts that ran: idempotency key, how often the execution was reopened before, number."""
        self.once: set[tuple[str, int]] = set()
        """Calls of activities that are to run at most once; how often they were begun anew, which is allowed."""
        self.returned: dict[str, tuple[int, int]] = {}
        """The newest attempt of a call that returned while somebody waited for it: its number, and the epoch."""
        self.running: dict[str, tuple[Attempt, Process, int]] = {}
        """The newest attempt of a call that has not ended, where it runs, and the epoch in which it began."""

    @contextmanager
    def attempt(self, key: str, once: bool = False) -> Iterator[Attempt]:
        """Surround what an activity does. Checked: it may start at all, and no attempt runs twice."""
        attempt = current_attempt()
        process = self._process()
        if process.alive:
            self._start(attempt, key, process, once)
        try:
            yield attempt
        finally:
            if self.running.get(attempt.idempotency_key, (None,))[0] is attempt:
                del self.running[attempt.idempotency_key]
        if process.alive and not attempt.cancelled:
            self.timeline.note(process, "returned", (attempt.idempotency_key, f"attempt {attempt.number}"))
            if process is self.auditor.leader:
                self.returned[attempt.idempotency_key] = (attempt.number, self.auditor.epoch)

    def _start(self, attempt: Attempt, key: str, process: Process, once: bool) -> None:
        call, number = attempt.idempotency_key, attempt.number
        self.timeline.note(process, "attempt", (call, f"attempt {number} of {attempt.activity} {key}"))
        check = self.auditor
        again = check.reopened(attempt.execution_id)  # by a person: then the count starts anew
        check.demand((call, again, number) not in self.started, f"attempt {number} of {call} runs twice", 3)
        self.started[call, again, number] = process
        if once:
            anew = again + check.stopped(call)  # an engine that closed in order may have had to stop it
            check.demand((call, anew) not in self.once, f"{call} is to run at most once, and ran again", 3)
            self.once.add((call, anew))
        check.attempt_starts(process, call, number, self.returned.get(call))
        other = self.running.get(call)
        if other is not None and other[1:] == (process, check.epoch) and process is check.leader:
            check.demand(other[0].cancelled, f"attempt {number} of {call} starts, and the one before still runs", 7)
        self.running[call] = (attempt, process, check.epoch)

    def wait(self, seconds: float) -> None:
        """Let time pass in a thread."""
        if seconds:
            self.scheduler.wait(seconds)

    def ask(self, token: str, key: str) -> None:
        if self._process().alive:
            self.asked(token, key)

    def _process(self) -> Process:
        strand = self.scheduler.current
        assert strand is not None
        return strand.process
