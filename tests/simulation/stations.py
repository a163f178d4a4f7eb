"""The real engine and the real client, at home in a simulated process.

Replaced are: how the file is opened, the doorbell, the threads, the dice, made-up ids, and the wait for the lock.
"""

from __future__ import annotations

import asyncio
import random
import threading
from typing import TYPE_CHECKING, Any, cast

from perdure import Client, Engine
from perdure.engine.executor import Executor
from perdure.engine.runner import Runner
from perdure.store.sqlite import Doorbell, RunnerLock, SqliteStore
from perdure.store.sqlite.connection import Checkpoints
from simulation.bells import Bell
from simulation.disk import SimulatedStore
from simulation.pool import Begun, Pool
from simulation.process import Process

if TYPE_CHECKING:
    from simulation.world import World


class Lock(RunnerLock):
    """The real lock. The world hears when it becomes free: a standby then tries soon, and does not have to in vain."""

    def __init__(self, process: Process, world: World) -> None:
        super().__init__(world.disk.path)
        self.process = process
        self.world = world
        process.resources.append(self)

    def release(self) -> None:
        held = self.held
        super().release()
        if held:
            self.world.lock_changed()

    def taken_back(self) -> None:
        self.release()


class SimulatedClient(Client):
    """A client in a process of its own."""

    def __init__(self, process: Process, world: World) -> None:
        self.process = process
        self.world = world
        super().__init__(world.disk.path, synchronous="normal", now=process.now_us)

    def _open_store(self, create: bool, checkpoints: Checkpoints = "alone") -> SqliteStore:
        return SimulatedStore(self.process, self.world.disk, self.payloads, create)

    def _make_doorbell(self) -> Doorbell:
        return cast(Doorbell, Bell(self.world.bells, self.process))

    def _new_id(self) -> str:
        return self.world.new_id()

    def forget(self) -> None:
        """Let the memory of the killed process go."""


class SimulatedEngine(Engine):
    """An engine in a process of its own."""

    def __init__(self, process: Process, world: World) -> None:
        self.process = process
        self.world = world
        options = world.options
        super().__init__(
            world.disk.path,
            [],
            synchronous="normal",
            hot=options.hot,
            max_async=options.places,
            max_threads=options.threads,
            grace_s=world.dice.choice([0.0, 0.05, 2.0]),
            now=process.now_us,
        )
        self.registry = world.code()
        process.is_current = world.is_newest(self.registry)
        self._draw = random.Random(world.dice.random()).random
        self._lock = Lock(process, world)

    def _open_store(self, create: bool, checkpoints: Checkpoints = "alone") -> SqliteStore:
        return SimulatedStore(self.process, self.world.disk, self.payloads, create)

    def _make_doorbell(self) -> Doorbell:
        return cast(Doorbell, Bell(self.world.bells, self.process))

    def _new_id(self) -> str:
        return self.world.new_id()

    def _make_watchdog(self, runner: Runner) -> None:
        return None

    def _make_executor(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> Executor:
        return SimulatedExecutor(self.process, loop, runner.submit, self.now, self.payloads, **self.limits)

    async def _until_next_try(self) -> None:
        if self._lock.holder():
            await self.world.lock_may_be_free(self.process)
        else:
            await super()._until_next_try()

    def forget(self) -> None:
        """Let the memory of the killed process go, without any code of it having a say."""
        if self._executor is not None:
            self._executor._queue.clear()
        if self._runner is not None:
            self._runner.closed = True
            self._runner.drop_all()


class SimulatedExecutor(Executor):
    """Runs `def` activities on simulated threads."""

    def __init__(self, process: Process, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.process = process
        self._threads = cast(Any, Pool(process, self.max_threads))

    def _make_event(self) -> threading.Event:
        return cast(threading.Event, Begun(self.process))


Station = SimulatedClient | SimulatedEngine
