"""The process that is watched: `python -m bench.soak.worker DATABASE SEED PAUSE_S`.

An engine with customers of its own. It prints its facts for each line on its standard input, and closes in order when
that ends.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
import sys
from pathlib import Path

from bench.soak.load import Customer, Meter, Wrong, complete_outside
from bench.soak.report import Lag, answer
from bench.soak.workflows import WORKFLOWS, guarded, monitor
from perdure import Engine

CUSTOMERS = 8
SLEEPERS = 50
"""Executions that wait all the time, evicted."""
HOT = 20
"""Fewer than wait at a time, so that executions are evicted and loaded again all the time."""


async def main(database: str, seed: str, pause_s: str) -> None:
    lag, meter = Lag(), Meter()
    async with Engine(Path(database), workflows=WORKFLOWS, hot=HOT, max_processes=1, grace_s=5) as engine:
        await engine.start(monitor, 0, id="monitor")
        for n in range(SLEEPERS):
            await engine.start(guarded, n, id=f"sleeper-{n}")
        work = [
            asyncio.create_task(Customer(engine, meter, f"own{n}", random.Random(f"{seed} {n}"), float(pause_s)).shop())
            for n in range(CUSTOMERS)
        ]
        work += [asyncio.create_task(lag.watch()), asyncio.create_task(complete_some(engine, meter, float(pause_s)))]
        print("ready", flush=True)
        await answer(lambda: {**meter.take(), **lag.take()}, work)
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)


async def complete_some(engine: Engine, meter: Meter, pause_s: float) -> None:
    for n in itertools.count():
        try:
            await complete_outside(engine, f"outside-{n}")
        except Wrong as error:
            meter.wrong.append(f"outside-{n}: {error}")
        meter.done += 1
        await asyncio.sleep(pause_s)


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.ERROR)  # nothing is to be heard
    asyncio.run(main(*sys.argv[1:]))
