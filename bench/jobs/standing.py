"""What an engine costs that has little to do, and how fast another process's signals reach a workflow."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path

from bench.jobs.client import SETTLE_S
from bench.jobs.definitions import database, plain_nap, plain_sequence, warm_engine
from bench.jobs.second import second_process
from perdure import Status

LONG_S = 86_400


async def idle(folder: Path, *, seconds: int) -> dict[str, float]:
    """CPU time of a runner with nothing to do and of a second process that waits for a result: percent of one CPU."""
    async with warm_engine(folder):
        client = asyncio.create_task(second_process("wait", database(folder), seconds))
        await asyncio.sleep(2 * SETTLE_S)  # the client has started and made its request by then
        began, cpu = time.perf_counter(), time.process_time()
        await asyncio.sleep(seconds - SETTLE_S)
        runner = (time.process_time() - cpu) / (time.perf_counter() - began) * 100
        values = await client
    return {"": runner + values["client"], "runner": runner, **values}


async def signals(folder: Path, *, count: int) -> dict[str, float]:
    """Signals/s that one workflow receives from another process."""
    async with warm_engine(folder):
        return await second_process("signals", database(folder), count)


async def def_threads(folder: Path, *, workflows: int) -> dict[str, float]:
    """How many threads more the process has when so many `def` workflows wait."""
    async with warm_engine(folder) as engine:
        await (await engine.start(plain_sequence, 1)).result()  # the pool of `def` activities is there either way
        await engine.counts()  # asyncio's own pool, which reading the counts uses, is there either way, too
        before = _threads()
        await asyncio.gather(*(engine.start(plain_nap, LONG_S) for _ in range(workflows)))
        while (await engine.counts()).get(Status.WAITING, 0) < workflows:
            await asyncio.sleep(0.05)
        return {"": _threads() - before}


def _threads() -> int:
    """Threads of this process as the system counts them, or as Python does where /proc is not there."""
    try:
        return len(os.listdir("/proc/self/task"))
    except FileNotFoundError:
        return threading.active_count()
