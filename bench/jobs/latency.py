"""Latencies: from the start of a one-step workflow to its result, in this process and from a second one."""

from __future__ import annotations

import time
from pathlib import Path

from bench.jobs.definitions import database, one_step, warm_engine
from bench.jobs.second import second_process
from perdure import Client

PERCENTILES = (1, 10, 25, 50, 75, 90, 95, 99, 99.9)


async def start_result(folder: Path, *, count: int) -> dict[str, float]:
    """One after another, on an engine that is otherwise idle, from the process that it runs in: milliseconds."""
    async with warm_engine(folder) as engine:
        return percentiles(await measured(engine, count))


async def cross(folder: Path, *, count: int) -> dict[str, float]:
    """The same from a second process, which waits for each result: milliseconds."""
    async with warm_engine(folder):
        return await second_process("latency", database(folder), count)


async def measured(client: Client, count: int) -> list[float]:
    """Start `count` workflows one after another and await each result; give how long each took, in ms."""
    taken_ms: list[float] = []
    for n in range(count):
        began = time.perf_counter()
        execution = await client.start(one_step, n)
        result = await execution.result()
        taken_ms.append((time.perf_counter() - began) * 1e3)
        if result != n:
            raise RuntimeError(f"a wrong result: expected {n}, got {result}")
    return taken_ms


def percentiles(samples: list[float]) -> dict[str, float]:
    """Give the percentiles by name (`p50`, `p99`, …): of the samples, the first that so many are not above."""
    ordered = sorted(samples)
    last = len(ordered) - 1
    return {f"p{share:g}": ordered[min(last, int(len(ordered) * share / 100))] for share in PERCENTILES}
