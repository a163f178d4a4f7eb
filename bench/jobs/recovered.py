"""A program that is killed and started again: `python recovered.py DATABASE N`. Its step N says when it ran and hangs.

A script of its own, as a user's would be, so that what it imports is what its start costs.
"""

from __future__ import annotations

import asyncio
import sys
import time

from perdure import Engine, activity, workflow

STEPS = 1_000_000
HANGS_AT = int(sys.argv[2])


@activity
async def work(n: int) -> int:
    if n == HANGS_AT:
        print(time.monotonic(), flush=True)
        await asyncio.Event().wait()
    return n


@workflow
async def long_way(steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await work(n)
    return total


async def main() -> None:
    async with Engine(sys.argv[1], workflows=[long_way]) as engine:
        execution = await engine.start(long_way, STEPS, id="way")
        await execution.result()


asyncio.run(main())
