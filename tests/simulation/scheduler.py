"""Who runs next, and when time passes.

A simulated process has strands: its event loop, and its threads. A strand is a greenlet that runs until it has
nothing to do or waits in the middle of something (a commit); then the scheduler picks the next one at random among
those that can run. Only when none can does time pass, to the next instant at which one can.

The hub is the greenlet that the scheduler itself runs in. What must not belong to any process, such as a check of the
invariants, is done there (`call`).
"""

from __future__ import annotations

import heapq
import math
import random
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from greenlet import getcurrent, greenlet

from perdure.testing.clock import RESOLUTION_S, VirtualClock

if TYPE_CHECKING:
    from simulation.process import Process

STEPS = 60_000
"""Far more than any seed takes: what comes here does not come to rest."""


class Killed(BaseException):
    """Thrown into what a process was doing when it was killed."""


class Restless(Exception):
    """The world did not come to rest."""


class Strand:
    """One thread of a simulated process. `ready` says whether it has something to do when it is not waiting."""

    def __init__(self, process: Process, run: Callable[[], None]) -> None:
        self.process = process
        self.greenlet = greenlet(run, process.scheduler.hub)
        self.until: float | None = None
        """Waits in the middle of something, until this instant; None when it does not."""

    def ready(self, now: float) -> bool:
        return True

    def next_at(self) -> float:
        """Give the instant at which it can run again."""
        return 0.0


class Scheduler:
    """See the module. All instants are seconds of the one monotonic clock."""

    def __init__(self, dice: random.Random) -> None:
        self.dice = dice
        self.clock = VirtualClock()
        self.processes: list[Process] = []
        self.current: Strand | None = None
        self.steps = 0
        self.hub = getcurrent()
        self._agenda: list[tuple[float, int, Callable[[], object]]] = []
        self._entries = 0

    @property
    def now(self) -> float:
        return self.clock.monotonic()

    def after(self, delay_s: float, act: Callable[[], object]) -> None:
        """Have the world itself do something after `delay_s`."""
        self._entries += 1
        heapq.heappush(self._agenda, (self.now + delay_s, self._entries, act))

    # --- running ----------------------------------------------------------------------------------------------------

    def run(self, done: Callable[[], bool], limit_s: float) -> bool:
        """Run until `done()`; give False when it is not after `limit_s`, or when nothing can happen any more."""
        end = self.now + limit_s
        self.hub = getcurrent()
        while not done():
            if self.now > end or not self._step():
                return False
        return True

    def _step(self) -> bool:
        self.steps += 1
        if self.steps > STEPS:
            raise Restless(f"{STEPS:,} steps and no end")
        now = self.now
        if self._agenda and self._agenda[0][0] <= now:
            heapq.heappop(self._agenda)[2]()
            return True
        able = [
            strand
            for process in self.processes
            if process.paused_until <= now
            for strand in process.strands
            if (strand.ready(now) if strand.until is None else strand.until <= now)
        ]
        if not able:
            return self._pass_time()
        strand = able[int(self.dice.random() * len(able))] if len(able) > 1 else able[0]
        self._switch(strand)
        return True

    def _switch(self, strand: Strand) -> None:
        """Let a strand run, and do in the hub what it calls for."""
        self.current = strand
        request = strand.greenlet.switch()
        while callable(request):
            request = strand.greenlet.switch(request())
        self.current = None
        if not strand.process.alive:
            strand.process.bury()

    def _pass_time(self) -> bool:
        """Nothing is ready: move the clock to where something is."""
        at = self._agenda[0][0] if self._agenda else math.inf
        for process in self.processes:
            at = min(at, max(process.next_at(), process.paused_until))
        if at == math.inf:
            return False
        self.clock.advance(max(at - self.now, RESOLUTION_S))
        return True

    # --- called from strands ------------------------------------------------------------------------------------------

    def wait(self, seconds: float) -> None:
        """Let virtual time pass in the middle of what a strand is doing; other strands run meanwhile."""
        strand = self.current
        assert strand is not None
        if not strand.process.alive:  # it is being taken apart
            raise Killed
        loop = _get_running_loop()
        _set_running_loop(None)
        strand.until = self.now + seconds
        try:
            self.hub.switch()
        finally:
            strand.until = None
            _set_running_loop(loop)
        if not strand.process.alive:
            raise Killed

    def call(self, act: Callable[[], Any]) -> Any:
        """Do something in the hub; what it raises ends the run. Gives what it gave."""
        if getcurrent() is self.hub:
            return act()
        loop = _get_running_loop()
        _set_running_loop(None)
        try:
            return self.hub.switch(act)
        finally:
            _set_running_loop(loop)

    def throw(self, strand: Strand) -> None:
        """End a strand that waits in the middle of something, as `kill -9` does."""
        if strand.greenlet and not strand.greenlet.dead:
            strand.greenlet.throw(Killed)
