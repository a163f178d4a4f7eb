"""A machine under load, for `crash_rounds.py`: says on its output what it was told, the moment it was told.

L id     a start was answered        R id     one that was to be in the bucket first
P id     an activity began that may only begin once what led to it is in the bucket
D id     the end was told, and was to be in the bucket first
"""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path

from perdure import Engine, activity, workflow
from perdure.replication.litestream import Settings
from perdure.replication.replica import Replica

LANES = 4


def say(what: str, id: str) -> None:
    os.write(1, f"{what} {id}\n".encode())  # one write: a line is said whole or not at all


@activity
async def step(n: int) -> int:
    return n + 1


@activity(durability="replicated")
async def pay(id: str) -> str:
    say("P", id)
    return id


@workflow
async def load(id: str, pays: bool) -> int:
    n = 0
    for _ in range(3):
        n = await step(n)
    if pays:
        await pay(id)
    return n


async def lane(engine: Engine, name: str, replicated: bool) -> None:
    number = 0
    while True:
        id = f"{name}-{number}"
        durability = "replicated" if replicated else "local"
        execution = await engine.start(load, id, replicated, id=id, durability=durability)
        say("R" if replicated else "L", id)
        if replicated:
            await execution.result()
            say("D", id)
        number += 1


async def main(database: str, url: str, name: str, logfile: str) -> None:
    logging.basicConfig(filename=logfile, level=logging.INFO)
    replica = Replica(url, settings=Settings(final_sync_s=5.0))
    async with Engine(Path(database), [load], replicate=replica) as engine:
        async with asyncio.TaskGroup() as group:
            for number in range(LANES):
                group.create_task(lane(engine, f"{name}-l{number}", False))
                group.create_task(lane(engine, f"{name}-r{number}", True))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:5]))
