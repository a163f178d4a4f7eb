"""Rates: how many steps, workflows or children a second."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Literal

from bench.jobs.definitions import (
    check,
    echoes,
    family,
    one_step,
    plain_sequence,
    sequence,
    total_of,
    warm_engine,
)

Synchronous = Literal["full", "normal"]


async def seq(folder: Path, *, steps: int, synchronous: Synchronous = "full") -> dict[str, float]:
    """One workflow, one step after another: steps/s."""
    async with warm_engine(folder, synchronous) as engine:
        started = time.perf_counter()
        execution = await engine.start(sequence, steps, id="seq")
        total = await execution.result()
        elapsed_s = time.perf_counter() - started
    check([total], total_of(steps))
    return {"": steps / elapsed_s}


async def conc(folder: Path, *, workflows: int, steps: int, synchronous: Synchronous = "full") -> dict[str, float]:
    """Many workflows at once, each one step after another: steps/s of all together, their starts included."""
    async with warm_engine(folder, synchronous) as engine:
        started = time.perf_counter()
        executions = await asyncio.gather(*(engine.start(sequence, steps, id=f"conc-{n}") for n in range(workflows)))
        totals = await asyncio.gather(*(execution.result() for execution in executions))
        elapsed_s = time.perf_counter() - started
    check(totals, total_of(steps))
    return {"": workflows * steps / elapsed_s}


async def sync_def(folder: Path, *, workflows: int, steps: int) -> dict[str, float]:
    """As `conc`, but `def` workflows that call `def` activities, which run in threads."""
    async with warm_engine(folder) as engine:
        started = time.perf_counter()
        executions = await asyncio.gather(*(engine.start(plain_sequence, steps) for _ in range(workflows)))
        totals = await asyncio.gather(*(execution.result() for execution in executions))
        elapsed_s = time.perf_counter() - started
    check(totals, total_of(steps))
    return {"": workflows * steps / elapsed_s}


async def workflows(folder: Path, *, count: int) -> dict[str, float]:
    """Workflows of one step, all asked for at once by one client: workflows/s, from the first start to the last
    result."""
    async with warm_engine(folder) as engine:
        started = time.perf_counter()
        executions = await asyncio.gather(*(engine.start(one_step, n) for n in range(count)))
        results = await asyncio.gather(*(execution.result() for execution in executions))
        elapsed_s = time.perf_counter() - started
    check([sum(results)], total_of(count))
    return {"": count / elapsed_s}


async def children(folder: Path, *, count: int) -> dict[str, float]:
    """One parent that gathers children of one step each: children/s, from its start to its result."""
    async with warm_engine(folder) as engine:
        started = time.perf_counter()
        execution = await engine.start(family, count)
        total = await execution.result()
        elapsed_s = time.perf_counter() - started
    check([total], total_of(count))
    return {"": count / elapsed_s}


async def payload(folder: Path, *, steps: int, size: int) -> dict[str, float]:
    """As `seq`, each step with an argument and a result of `size` characters that hardly compress: steps/s."""
    async with warm_engine(folder) as engine:
        started = time.perf_counter()
        execution = await engine.start(echoes, steps, size)
        total = await execution.result()
        elapsed_s = time.perf_counter() - started
    check([total], steps * size)
    return {"": steps / elapsed_s}
