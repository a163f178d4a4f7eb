"""One simulated process: an event loop, threads, a wall clock of its own, what the kernel takes back when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from simulation.process_loop import ProcessLoop
from simulation.scheduler import Killed, Scheduler, Strand

if TYPE_CHECKING:
    from simulation.stations import Station


class Resource(Protocol):
    """What the kernel takes back: a lock, an open file, a pipe."""

    def taken_back(self) -> None: ...


class LoopStrand(Strand):
    """The thread that the event loop runs on."""

    def __init__(self, process: Process) -> None:
        super().__init__(process, self._run)

    def ready(self, now: float) -> bool:
        return self.process.loop.able(now)

    def next_at(self) -> float:
        return self.process.loop.next_at()

    def _run(self) -> None:
        process, hub = self.process, self.process.scheduler.hub
        with contextlib.suppress(Killed):
            while process.alive:
                process.loop.run_one()
                if process.alive:
                    hub.switch()


class Process:
    """See the module. `skew_s` is how far its wall clock is ahead."""

    def __init__(self, scheduler: Scheduler, name: str, skew_s: float, on_failed: Callable[[str], None]) -> None:
        self.scheduler = scheduler
        self.name = name
        self.skew_us = round(skew_s * 1e6)
        self.on_failed = on_failed
        self.alive = True
        self.paused_until = 0.0
        self.resources: list[Resource] = []
        self.loop = ProcessLoop(self)
        self.strands: list[Strand] = [LoopStrand(self)]
        self.station: Station | None = None
        """The engine or client that runs in it, once it is open."""
        self.on_end: Callable[[Process], None] | None = None
        self.is_current = True
        """Whether it has the newest code."""
        scheduler.processes.append(self)

    def __repr__(self) -> str:
        return self.name

    @property
    def is_committing(self) -> bool:
        """Whether its event loop waits in the middle of a transaction, while its threads go on."""
        return self.strands[0].until is not None

    def now_us(self) -> int:
        """Give its wall clock, in microseconds since 1970."""
        return self.scheduler.clock.now_us() + self.skew_us

    # --- what the scheduler asks --------------------------------------------------------------------------------------

    def next_at(self) -> float:
        return min((s.next_at() if s.until is None else s.until for s in self.strands), default=math.inf)

    # --- its life -----------------------------------------------------------------------------------------------------

    def spawn(self, coroutine: Any) -> None:
        """Run a coroutine on its loop. What it raises is a failure of the simulation."""

        def begin() -> None:
            task = self.loop.create_task(coroutine)
            task.add_done_callback(self._check)

        self.loop.call_soon(begin)

    def _check(self, done: asyncio.Task[Any]) -> None:
        error = None if done.cancelled() else done.exception()
        if error is not None and self.alive:
            self.failed({"message": "a task failed", "exception": error})

    def failed(self, context: dict[str, Any]) -> None:
        """Take note of an error that nobody handled."""
        self.on_failed(f"{self.name}: {context.get('message')}: {context.get('exception')!r}")

    def pause(self, seconds: float) -> None:
        """Stop it, as the kernel, a debugger or a sleeping laptop does; it goes on as if nothing had happened."""
        self.paused_until = max(self.paused_until, self.scheduler.now + seconds)

    def kill(self) -> None:
        """Kill it. From a strand of its own this only marks it: the next thing that it does raises `Killed`."""
        self.alive = False
        if self.scheduler.current is None or self.scheduler.current.process is not self:
            self.bury()

    def bury(self) -> None:
        """Let the kernel take back what it held, and take its memory apart. In the hub."""
        if self not in self.scheduler.processes:
            return
        self.alive = False
        self.scheduler.processes.remove(self)
        for resource in self.resources:
            resource.taken_back()
        for strand in list(self.strands):
            self.scheduler.throw(strand)
        if self.station is not None:
            self.station.forget()
        self.loop.bury()
        self.strands.clear()
        if self.on_end is not None:
            self.on_end(self)
