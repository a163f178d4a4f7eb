"""A program whose database is streamed: workflows with steps, in this process or in one of its own."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure import Engine, Signal, activity, workflow
from perdure.replication.replica import Replica
from perdure.replication.target import Target

go = Signal("go", bool)


@activity
async def step(n: int) -> int:
    return n + 1


@workflow
async def count(steps: int) -> int:
    n = 0
    for _ in range(steps):
        n = await step(n)
    return n


@workflow
async def wait(name: str) -> str:
    await go.receive()
    return name


@workflow
async def slowly(steps: int, pause_s: float) -> int:
    n = 0
    for _ in range(steps):
        n = await step(n)
        await asyncio.sleep(pause_s)
    return n


ALL = [count, wait, slowly]


async def stream(database: Path, target: Target | str, *ids: str) -> Replica:
    """Be the runner of a database once: start an execution for each id, and stop when all of it is in the bucket."""
    replica = Replica(target if isinstance(target, str) else target.url)
    async with Engine(database, ALL, replicate=replica, durability="replicated") as engine:
        for id in ids:
            await (await engine.start(count, 2, id=id)).result(60)
    assert replica.streams[0].complete
    return replica
