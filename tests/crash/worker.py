"""The process that is killed: an engine, which also starts work of its own and signals to it.

`worker.py DATABASE ACKS NAME SEED [idle]`; an `idle` one starts nothing itself. It says `ready` on its standard output
once it is open, and never ends. What it was told to be durable it writes into ACKS: `started ID WORKFLOW N` and `sent
ID VALUE`.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys

from crash_workflows import WORKFLOWS, collect, draw_job, number, write_line

from perdure import Engine, Execution

STARTS = 12
SIGNALS = 30
AT_ONCE = 4


async def start_jobs(engine: Engine, acks: str, name: str, choose: random.Random) -> None:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(i: int) -> None:
        async with gate:
            workflow, n = draw_job(choose)
            id = f"own-{name}-{i}"
            execution: Execution[object] = await engine.start(workflow, n, id=id)
            write_line(acks, f"started {id} {workflow.name} {n}")
            await asyncio.gather(execution.result(), return_exceptions=True)

    await asyncio.gather(*(one(i) for i in range(STARTS)))


async def send_numbers(engine: Engine, acks: str, name: str) -> None:
    id = f"own-{name}-collect"
    execution = await engine.start(collect, 0, id=id)
    write_line(acks, f"started {id} collect 0")
    for value in range(SIGNALS):
        await execution.signal(number, value)
        write_line(acks, f"sent {id} {value}")


async def main(database: str, acks: str, name: str, seed: str, idle: str = "") -> None:
    choose = random.Random(f"{seed} {name}")
    async with Engine(database, workflows=WORKFLOWS, hot=choose.choice([0, 3, 10_000])) as engine:
        print("ready", flush=True)
        if not idle:
            await asyncio.gather(start_jobs(engine, acks, name, choose), send_numbers(engine, acks, name))
        await asyncio.Event().wait()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.WARNING)
    asyncio.run(main(*sys.argv[1:]))
