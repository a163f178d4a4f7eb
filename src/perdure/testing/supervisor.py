"""Keeps the simulated process going: runs it, lets time pass, kills it, starts it again."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

from perdure.engine.registry import Registry
from perdure.events import Event
from perdure.store import ExecutionRow
from perdure.testing.agenda import Agenda
from perdure.testing.clock import RESOLUTION_S, VirtualClock
from perdure.testing.commits import Commit, Crash, Names, Trigger
from perdure.testing.fakes import Endless, SimulationError
from perdure.testing.machine import Machine
from perdure.testing.stage import Stage
from perdure.testing.timeline import Mark
from perdure.types import instant


class Supervisor:
    """See the module. `machine` is the process; None while it is down."""

    def __init__(
        self,
        clock: VirtualClock,
        real: bool | Collection[Any],
        draw: random.Random,
        shuffle: bool,
        hot: int,
        max_commits: int,
    ) -> None:
        self.clock = clock
        self.draw = draw
        self.hot = hot
        self.max_commits = max_commits
        self.stage = Stage(clock, real, draw, self.fail)
        self.stage.shuffle = shuffle
        self.agenda = Agenda()
        self.machine: Machine | None = None
        self.marks: list[Mark] = []
        self.commits = 0
        self.triggers: list[Trigger] = []
        self.on_commit: Callable[[Commit], Any] | None = None
        self._path = Path()
        self._registry = Registry([])
        self._dead: list[Machine] = []
        self._names = Names()
        self._seen: dict[tuple[str, int], int] = {}
        self._limit = max_commits
        self._error: Exception | None = None
        self._restart_after_s: float | None = None
        self._why = ""
        self._closing = False

    # --- the life of the process ------------------------------------------------------------------------------------

    def open(self, path: Path, registry: Registry) -> None:
        self._path, self._registry = path, registry
        self._start()
        self.settle()

    def _start(self) -> None:
        if self.machine is None:
            self.machine = Machine(
                self._path, self.clock, self._registry, self.stage, self.watch, self.draw, {"hot": self.hot}
            )
            self._guarded(self.machine.start)

    def restart(self, registry: Registry) -> None:
        self._registry = registry
        if self.machine is not None:
            self._guarded(self.machine.close)
            self.machine = None
            self._mark("restart")
        self._start()
        self.settle()

    def crash(self, restart_after_s: float | None, why: str = "") -> None:
        if self.machine is None:
            raise SimulationError("the process is down already", hint="restart() starts it")
        self._restart_after_s = restart_after_s
        self._why = why
        if self.machine.running:
            raise Crash
        self._die()

    def _die(self) -> None:
        machine, self.machine = self.machine, None
        assert machine is not None
        self._mark(f"crash{self._why}")
        self.stage.interrupt()
        machine.kill()
        self._dead.append(machine)
        if self._restart_after_s is not None:
            self.agenda.plan(self.clock.monotonic() + self._restart_after_s, self._start)

    def close(self) -> None:
        self._closing = True
        machine, self.machine = self.machine, None
        if machine is not None:
            try:
                machine.close()
            except BaseException:
                machine.kill()
                self._dead.append(machine)
                raise
        for dead in self._dead:
            dead.bury()
        self._dead.clear()

    def look(self) -> None:
        """Have the process notice what the world outside did: asked for something, or set the wall clock."""
        if self.machine is not None:
            self.machine.engine.look()  # the doorbell rang as well, but a ring may get lost, and nobody looks later
        self.settle()

    def fail(self, error: Exception) -> None:
        """End the call that the test is in with an error."""
        self._error = self._error or error
        if self.machine is not None and self.machine.running:
            self.machine.loop.stop()

    # --- running ----------------------------------------------------------------------------------------------------

    def settle(self) -> None:
        """Run what is ready at this instant, until nothing is. Nothing to do inside the process: it is running."""
        if self.machine is not None and self.machine.running:
            return
        while True:
            if self.machine is not None:
                self._guarded(self.machine.run_ready)
            if self._error is not None:
                error, self._error = self._error, None
                raise error
            action = self.agenda.take(self.clock.monotonic() + RESOLUTION_S / 2)
            if action is None:
                return
            action()

    def _guarded(self, run: Callable[[], None]) -> None:
        try:
            run()
        except Crash:
            self._die()

    # --- time -------------------------------------------------------------------------------------------------------

    def drive(self, done: Callable[[], bool], timeout_s: float | None) -> bool:
        """Let time pass until `done()`, until `timeout_s` seconds are over, or until nothing is left to happen; say
        whether it is done."""
        if self.machine is not None and self.machine.running:
            hint = "make the fake `async def` and let it sleep"
            raise SimulationError("time cannot pass inside a fake or a hook", hint=hint)
        self._limit = self.commits + self.max_commits
        until = None if timeout_s is None else self.clock.monotonic() + timeout_s
        for _ in range(self.max_commits):
            self.settle()
            if done():
                return True
            at = self._next_at()
            if at is None or (until is not None and at > until + RESOLUTION_S / 2):
                break
            self.clock.advance(max(at - self.clock.monotonic(), 0))
        else:
            self._restless()
        if until is not None:
            self.clock.advance(max(until - self.clock.monotonic(), 0))
            self.settle()
        return done()

    def _next_at(self) -> float | None:
        """Give the time of whatever happens next; None when nothing does."""
        loop = self.machine.loop if self.machine is not None else None
        times = [self.agenda.next_at, loop.next_at() if loop is not None else None]
        return min((at for at in times if at is not None), default=None)

    def _restless(self) -> None:
        raise Endless(
            f"after {self.max_commits:,} steps there is still no end; it is {instant(self.clock.now_us()):%Y-%m-%d}",
            hint="does it poll for ever? Give it a time limit, or the Environment more max_commits",
        )

    def hint(self) -> str:
        if self.machine is None:
            return "the process is down since its crash: call restart(), or crash(restart_after_s=…)"
        return "plan what it waits for, such as env.signal(…, to=…, after_s=…), before you let time pass"

    # --- commits ----------------------------------------------------------------------------------------------------

    def watch(self, events: list[tuple[ExecutionRow, Event]], before: bool) -> None:
        """Hear of a commit."""
        if self._closing:
            return
        self.commits += before
        if self.commits > self._limit:
            self.fail(
                Endless(
                    f"more than {self.max_commits:,} commits, and no end; at {instant(self.clock.now_us())}",
                    hint="does a workflow loop for ever? A loop has to wait for something, or to end",
                )
            )
        hits = [self._hit(row, event, before) for row, event in events]
        if not before:
            self._seen.update(((row.id, row.run), event.seq) for row, event in events)
        if self.on_commit is not None:
            self.on_commit(Commit(self.commits, before, tuple((row.id, event) for row, event in events)))
        for hit in hits:
            if hit is not None:
                self.crash(hit[0].restart_after_s, hit[1])

    def _hit(self, row: ExecutionRow, event: Event, before: bool) -> tuple[Trigger, str] | None:
        """Give the trigger that an event sets off, and what the event is in words."""
        name = self._names.of(row, event)
        hit = [trigger for trigger in self.triggers if trigger.before is before and trigger.hit(row, event, name)]
        where = "in place of" if before else "after"
        what = f"#{event.seq} {event.kind.name.lower()}{' ' + name if name else ''} of {row.id}"
        return (hit[0], f" {where} {what}") if hit else None

    def _mark(self, text: str) -> None:
        self.marks.append(Mark(instant(self.clock.now_us()), text, dict(self._seen)))
