"""One round: poison some executions of a file, run an engine on it, look at it with the command line, run another.

1. Every execution that was not poisoned comes to its right end, a new one too.
2. The engine stays the runner, and comes to rest: it does not try anything over and over.
3. Each command of the command line answers with a documented exit code and nothing that steers a terminal.
4. A poisoned execution that can be found by its id can be terminated.
5. Nothing that the file names is imported, made or started (`fuzz_canary.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import NamedTuple

import fuzz_command_line as command_line
from fuzz_canary import watching
from fuzz_poison import Poisoner
from fuzz_workload import DAY_S, PATIENCE_S, WORKFLOWS, Clock, drive, expected, prepare, quick

from perdure import Engine
from perdure.codec.encryption import AesGcmCodec
from perdure.codec.payload import Codec
from perdure.errors import PerdureError

STEP_S = DAY_S / 4
RUNS = 4
"""More runs of one id than poison makes; each has to be terminated."""


class Base(NamedTuple):
    """A prepared file. `codec` is None for one in plain text."""

    path: Path
    ids: list[str]
    codec: Codec | None


def make_base(folder: Path, encrypted: bool) -> Base:
    codec = AesGcmCodec({"k": bytes(32)}, current="k") if encrypted else None
    path = folder / ("encrypted" if encrypted else "plain") / "base.db"  # beside it lie tokens, by id
    path.parent.mkdir()
    return Base(path, asyncio.run(prepare(path, sets=1, codec=codec)), codec)


class Round:
    """One round, drawn from `seed`. `notes` says what was done to the file."""

    def __init__(self, base: Base, folder: Path, seed: int) -> None:
        self.base = base
        self.seed = seed
        self.draw = random.Random(seed)
        self.folder = folder
        self.database = folder / f"round{seed}.db"
        self.victims = self.draw.sample(base.ids, self.draw.randint(1, 4))
        self.healthy = [id for id in base.ids if id not in self.victims]
        self.clock = Clock()
        self.clock.ahead_us = 2 * DAY_S * 1_000_000
        self.notes: list[str] = []

    def play(self, look: bool) -> None:
        """Poison and run. `look` adds the command line, which takes longer than all else."""
        shutil.copy(self.base.path, self.database)
        poisoner = Poisoner(self.database, self.draw)
        try:
            for id in self.victims:
                poisoner.poison(id, self.draw.randint(1, 3))
        finally:
            poisoner.close()
            self.notes = poisoner.notes
        try:
            with watching(self.folder):
                if look and self.base.codec is None:
                    command_line.look(self.database, self.victims, terminal=self.draw.random() < 0.5)
                asyncio.run(self._first_engine())
                if look and self.base.codec is None:
                    command_line.look(self.database, self.victims, terminal=self.draw.random() < 0.5)
                    command_line.ask(self.database, self.victims)
                asyncio.run(self._second_engine())
        finally:
            for left in self.folder.glob(f"{self.database.name}*"):
                shutil.rmtree(left) if left.is_dir() else left.unlink()

    @contextlib.asynccontextmanager
    async def _engine(self) -> AsyncIterator[Engine]:
        options = {"codec": self.base.codec, "hot": self.draw.choice((10_000, 3, 0)), "now": self.clock.now_us}
        async with Engine(self.database, WORKFLOWS, grace_s=0.0, synchronous="normal", **options) as engine:
            ticking = asyncio.create_task(self._tick(engine))
            try:
                yield engine
            finally:
                ticking.cancel()

    async def _tick(self, engine: Engine) -> None:
        """Put the clock forward, so that all timers fall due one after the other."""
        while True:
            await asyncio.sleep(0.005)
            self.clock.ahead_us += round(STEP_S * 1e6)
            engine.doorbell.ring("runner")

    async def _first_engine(self) -> None:
        async with self._engine() as engine:
            others = asyncio.create_task(drive(engine, self.victims, self.base.path))
            found = await drive(engine, self.healthy, self.base.path)
            wrong = {id: found[id] for id in self.healthy if found[id] != expected(id)}
            assert not wrong, f"not what they must come to: {wrong}"
            await self._rests(engine)
            others.cancel()
            await asyncio.gather(others, return_exceptions=True)

    async def _second_engine(self) -> None:
        async with self._engine() as engine:
            assert await (await engine.start(quick, "new", id="new")).result(timeout_s=PATIENCE_S) == "new"
            for id in self.victims:
                await self._terminate(engine, id)
            await self._rests(engine)

    async def _terminate(self, engine: Engine, id: str) -> None:
        for _ in range(RUNS):
            row = engine.store.find(id)
            if row is None or row.status.closed:
                return
            with contextlib.suppress(PerdureError):  # it ended meanwhile
                await asyncio.wait_for(engine.execution(id).terminate(), PATIENCE_S)
        raise AssertionError(f"{id} is {row.status} after it was terminated: {row.problem}")

    async def _rests(self, engine: Engine) -> None:
        """Wait until the runner has nothing to do, and nothing that it tries again and again."""
        runner = engine._runner
        assert runner is not None, "the engine is not the runner any more"
        deadline = time.monotonic() + PATIENCE_S
        while (
            runner._scheduled
            or runner.inputs
            or runner.faults.count
            or runner.faults.suspects
            or runner.arrivals.waiting()
        ):
            state = f"faults {runner.faults.count}, suspects {runner.faults.suspects}, inputs {list(runner.inputs)[:3]}"
            assert time.monotonic() < deadline, f"does not come to rest: {state}, next due {runner.arrivals.next_due}"
            await asyncio.sleep(0.002)
