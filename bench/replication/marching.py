"""What runs while machines take over from each other. Each step says when it ran, by a clock that processes share."""

from __future__ import annotations

import asyncio
import time

from bench.jobs.definitions import TEXT
from perdure import activity, workflow

STEPS = 100_000
PAUSE_S = 0.02


@activity
async def tell(n: int) -> None:
    print(time.monotonic(), flush=True)


@activity
async def load(n: int, size: int) -> str:
    return TEXT[n : n + size]


@workflow
async def march() -> None:
    for n in range(STEPS):
        await tell(n)
        await asyncio.sleep(PAUSE_S)


@workflow
async def filled(steps: int, size: int) -> None:
    for n in range(steps):
        await load(n * 7, size)
