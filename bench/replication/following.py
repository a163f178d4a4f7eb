"""How closely a replica follows, what it costs, and what waiting for it costs. All with the default settings."""

from __future__ import annotations

import asyncio
import itertools
import random
import statistics
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path

from bench.jobs.definitions import WARM_UP_STEPS, WORKFLOWS, check, database, one_step, sequence, total_of
from bench.jobs.latency import percentiles
from bench.replication.buckets import rclone
from perdure import Engine, activity, workflow
from perdure.replication.replica import Replica
from perdure.replication.stream import LitestreamStream

SEED = 20_261_123
CLIENTS = 10
PAUSE_S = 0.05


@activity(durability="replicated")
async def careful_noop(n: int) -> int:
    return n


@workflow
async def careful_sequence(steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await careful_noop(n)
    return total


@asynccontextmanager
async def following(folder: Path, url: str | None) -> AsyncIterator[tuple[Engine, Replica | None]]:
    """Open a warm engine on a new database; with a `url` all of it is in the bucket."""
    folder.mkdir()
    replica = None if url is None else Replica(url)
    async with Engine(database(folder), workflows=[*WORKFLOWS, careful_sequence], replicate=replica) as engine:
        warm_up = await engine.start(sequence, WARM_UP_STEPS, id="warm-up")
        await warm_up.result()
        if replica is not None:
            await replica.streams[0].reached()
        yield engine, replica


async def overhead(folder: Path, *, workflows: int, steps: int, pairs: int) -> dict[str, float]:
    """The job `conc` with a replica and without, in turns: the ratio of their rates, of each pair; the median."""
    rates: dict[bool, list[float]] = {True: [], False: []}
    with rclone() as url:
        place = itertools.count()
        for pair in range(pairs):
            for replicated in (True, False) if pair % 2 else (False, True):
                fresh = folder / str(next(place))
                async with following(fresh, url.replace("?", f"/{fresh.name}?") if replicated else None) as (engine, _):
                    rates[replicated].append(await _steps_s(engine, workflows, steps))
    ratios = [with_ / without for with_, without in zip(rates[True], rates[False], strict=True)]
    return {
        "": statistics.median(ratios),
        "lowest": min(ratios),
        "steps_s": statistics.median(rates[True]),
        "local_steps_s": statistics.median(rates[False]),
    }


async def lag(folder: Path, *, seconds: int, workflows: int, steps: int) -> dict[str, float]:
    """From a commit until it is known to be in the bucket, in ms, while nobody waits for it: with a hundred commits a
    second or so, and at full speed. The worse of the two counts."""
    with rclone() as url:
        async with following(folder / "db", url) as (engine, replica):
            assert replica is not None
            watch = Watch(replica.streams[0])
            draw = random.Random(SEED)
            until = time.perf_counter() + seconds
            await asyncio.gather(*(_client(engine, watch, until, draw) for _ in range(CLIENTS)))
            some = await watch.lags_ms()
            sampling = asyncio.create_task(_sample(watch))
            await _steps_s(engine, workflows, steps)
            sampling.cancel()
            full = await watch.lags_ms()
    parts = {"some": percentiles(some), "full": percentiles(full)}
    named = {f"{part}_{name}": value for part, values in parts.items() for name, value in values.items()}
    return {"": max(values["p99"] for values in parts.values()), **named}


class Watch:
    """Notes when commits were made and when they were known to be in the bucket."""

    def __init__(self, stream: LitestreamStream) -> None:
        self.progress = stream.progress
        self.made: list[tuple[int, float]] = []
        self.there: list[tuple[int, float]] = []
        self._told, self.progress.on_reached = self.progress.on_reached, self._reached

    def commit(self) -> None:
        """Note that the newest commit was made just now."""
        self.made.append((self.progress.committed, time.perf_counter()))

    def _reached(self) -> None:
        self.there.append((self.progress.replicated, time.perf_counter()))
        if self._told is not None:
            self._told()

    async def lags_ms(self) -> list[float]:
        """Wait until all is there; give how long each took since the last time that this was asked."""
        while self.progress.replicated < self.progress.committed:
            await asyncio.sleep(0.05)
        made, self.made = self.made, []
        there, self.there = iter(self.there), []
        found, (number, at) = [], next(there)
        for commit, made_at in made:
            while number < commit:
                number, at = next(there)
            found.append((at - made_at) * 1e3)
        return found


async def _client(engine: Engine, watch: Watch, until: float, draw: random.Random) -> None:
    while time.perf_counter() < until:
        execution = await engine.start(one_step, 1)
        watch.commit()
        await execution.result()
        await asyncio.sleep(draw.expovariate(1 / PAUSE_S))


async def _sample(watch: Watch) -> None:
    while True:
        watch.commit()
        await asyncio.sleep(0.002)


async def barrier(folder: Path, *, count: int) -> dict[str, float]:
    """Start workflows one after another, each answered once it is in the bucket: ms."""
    taken_ms: list[float] = []
    with rclone() as url:
        async with following(folder / "db", url) as (engine, _):
            for n in range(count):
                began = time.perf_counter()
                execution = await engine.start(one_step, n, durability="replicated")
                taken_ms.append((time.perf_counter() - began) * 1e3)
                check([await execution.result()], n)
    return percentiles(taken_ms)


async def barrier_conc(folder: Path, *, workflows: int, steps: int) -> dict[str, float]:
    """The job `conc`, where each step starts only once what led to it is in the bucket: steps/s."""
    with rclone() as url:
        async with following(folder / "db", url) as (engine, _):
            return {"": await _timed(_all(engine, workflows, steps, careful=True), workflows * steps)}


async def _steps_s(engine: Engine, workflows: int, steps: int) -> float:
    return await _timed(_all(engine, workflows, steps), workflows * steps)


async def _timed(work: Awaitable[None], steps: int) -> float:
    began = time.perf_counter()
    await work
    return steps / (time.perf_counter() - began)


async def _all(engine: Engine, workflows: int, steps: int, *, careful: bool = False) -> None:
    what = careful_sequence if careful else sequence
    executions = await asyncio.gather(*(engine.start(what, steps, id=f"conc-{n}") for n in range(workflows)))
    check(await asyncio.gather(*(execution.result() for execution in executions)), total_of(steps))
