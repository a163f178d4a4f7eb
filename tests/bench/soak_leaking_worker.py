"""The worker of the long run with something wrong: it leaves files open and keeps what it should forget."""

from __future__ import annotations

import asyncio
import os
import sys

from bench.soak.worker import main

kept: list[object] = []


async def leak(*arguments: str) -> None:
    async with asyncio.TaskGroup() as group:
        leaking = group.create_task(_go_on())
        await main(*arguments)
        leaking.cancel()


async def _go_on() -> None:
    while True:
        kept.append(os.open(os.devnull, os.O_RDONLY))
        kept.append(os.urandom(300_000))
        kept.append([object() for _ in range(1_000)])
        await asyncio.sleep(0.1)


if __name__ == "__main__":
    asyncio.run(leak(*sys.argv[1:]))
