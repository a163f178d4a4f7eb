"""The simulated process: the real engine on a loop of virtual time, that can be killed at any moment.

started ── run_ready() ──▶ rests ── time passes ──▶ run_ready() …
   │ kill(), or a `Crash` out of run_ready()     │ close(): in order
   ▼                                             ▼
 dead: files closed, lock free, nothing recorded, no code of it runs any more
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from perdure.client.client import Client
from perdure.engine.engine import Engine
from perdure.engine.executor import Executor
from perdure.engine.registry import Registry
from perdure.engine.runner import Runner
from perdure.engine.watchdog import Watchdog
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.connection import Checkpoints
from perdure.testing.clock import VirtualClock, VirtualLoop
from perdure.testing.commits import WatchedStore
from perdure.testing.fakes import SimulationError
from perdure.testing.stage import SimulatedExecutor, Stage

MANY = 1_000_000
BEATS_WRITTEN_S = 1.0
"""How soon a heartbeat is in the file, as with the engine's own look around."""

Watch = Callable[..., None]


class SimulatedClient(Client):
    """The world outside: asks through the file, as another process does. Its requests are there whatever happens to
    the runner."""

    watch: Watch | None = None
    made = 0

    def _open_store(self, create: bool, checkpoints: Checkpoints = "alone") -> SqliteStore:
        store = WatchedStore(
            self.path,
            synchronous=self.synchronous,
            payloads=self.payloads,
            now=self.now,
            create=create,
            checkpoints=checkpoints,
        )
        store.watch = self.watch
        return store

    def _new_id(self) -> str:
        while True:  # made up in order, so that a run can be repeated
            self.made += 1
            id = f"execution-{self.made}"
            if self.store.find(id) is None:
                return id


class SimulatedEngine(Engine):
    """The engine without what needs real time: no watchdog, no looking around once a second."""

    watch: Watch
    stage: Stage

    def _open_store(self, create: bool, checkpoints: Checkpoints = "alone") -> SqliteStore:
        store = WatchedStore(
            self.path,
            synchronous=self.synchronous,
            payloads=self.payloads,
            now=self.now,
            create=create,
            checkpoints=checkpoints,
        )
        store.watch = self.watch
        return store

    def _make_executor(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> Executor:
        executor = SimulatedExecutor(loop, runner.submit, self.now, self.payloads, **self.limits)
        executor.stage = self.stage
        executor.on_beat = lambda: self._tick_soon(loop, runner)
        return executor

    def _tick_soon(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> None:
        if len(runner.arrivals.beats) == 1:  # the first since the last look
            loop.call_later(BEATS_WRITTEN_S, runner.tick)

    def _make_watchdog(self, runner: Runner) -> Watchdog | None:
        return None

    async def _do_chores(self) -> None:
        await asyncio.get_running_loop().create_future()

    def look(self) -> None:
        """Look around, as the engine does once a second."""
        if self._runner is not None:
            self._runner.tick()

    def kill(self) -> None:
        """Let go of everything as the kernel does for a process that is gone. Nothing is handled or recorded."""
        runner, executor = self._runner, self._executor
        if runner is not None:
            runner.closed = True
        if executor is not None:
            executor.close()
        for bell in (self._runner_bell, self._doorbell):
            if bell is not None:
                bell.close()
        for store in (self._runner_store, self._store):
            if store is not None:
                store.close()
        self._lock.release()
        if runner is not None:
            runner.drop_all()


class Machine:
    """See the module. `watch` hears of commits, `draw` is the engine's randomness."""

    def __init__(
        self,
        path: Path,
        clock: VirtualClock,
        registry: Registry,
        stage: Stage,
        watch: Watch,
        draw: random.Random,
        options: dict[str, Any],
    ) -> None:
        self.loop = VirtualLoop(clock)
        self.engine = SimulatedEngine(
            path, [], now=clock.now_us, synchronous="normal", max_async=MANY, grace_s=0.0, **options
        )
        self.engine.registry = registry  # checking the code once is enough
        self.engine.watch, self.engine.stage = watch, stage
        self.engine._draw = draw.random
        self.running = False
        """Whether the loop is running now, further up the stack."""
        self._leftovers: list[asyncio.Task[Any]] = []

    def start(self) -> None:
        """Open the engine. Raises `SimulationError` when another one has the file, and what the engine raises."""
        self._run(lambda: self.loop.run_until_complete(self.engine.__aenter__()))
        if not self.engine.leading:
            raise SimulationError(
                f"{self.engine.path} is in use: another process is its runner",
                hint="stop that one, or give the environment a copy of the file",
            )

    def run_ready(self) -> None:
        """Run everything that is ready, without letting time pass. Raises `Crash` when a crash was asked for inside,
        and whatever else made it out of the loop."""
        self._run(self.loop.run_ready)

    def _run(self, what: Callable[[], object]) -> None:
        self.running = True
        try:
            what()
        finally:
            self.running = False

    def close(self) -> None:
        """End in order: running attempts are cancelled, everything that ended is committed."""
        self._run(lambda: self.loop.run_until_complete(self.engine.__aexit__(None, None, None)))
        self._run(lambda: self.loop.run_until_complete(self.loop.shutdown_asyncgens()))
        self.loop.close()

    def kill(self) -> None:
        """Kill the process. Its coroutines are kept as they are until `bury`: those of a dead process do not clean
        up."""
        self.loop.set_exception_handler(lambda loop, context: None)
        self._leftovers = [*asyncio.all_tasks(self.loop)]
        for task in self._leftovers:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # asyncio warns of dropped tasks
        self.engine.kill()
        self.loop.close()

    def bury(self) -> None:
        """Let go of what a kill left behind. Coroutines of activities run their `finally` blocks now."""
        for task in self._leftovers:
            coroutine = task.get_coro()
            with contextlib.suppress(BaseException):
                if coroutine is not None:
                    coroutine.close()
        self._leftovers.clear()
