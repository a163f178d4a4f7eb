"""The process that is killed: an engine, which also asks for work of its own.

`worker.py NAME PLACE SEED [idle]`; an `idle` one asks for nothing. It says `ready` on its standard output once it is
open. It ends when it is killed, or in order when it is asked to (SIGTERM).
"""

from __future__ import annotations

import asyncio
import logging
import random
import signal
import sys

import crash_bugs
from crash_asker import Asker
from crash_ledger import Places
from crash_oracle import WORKFLOWS

from perdure import Engine


async def main(name: str, place: str, seed: str, idle: str = "") -> None:
    choose = random.Random(f"{seed} {name}")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    engine = Engine(
        Places.here().database,
        workflows=WORKFLOWS,
        codec=Places.codec(),
        synchronous=choose.choice(["full", "normal"]),
        hot=choose.choice([0, 3, 10_000]),
        max_processes=1,
        grace_s=choose.choice([0.0, 0.2]),
    )
    async with engine:
        print("ready", flush=True)
        asking = asyncio.ensure_future(_ask(engine, name, place, seed) if not idle else stop.wait())
        await asyncio.wait([asyncio.ensure_future(stop.wait()), asking], return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            asking.result()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)


async def _ask(engine: Engine, name: str, place: str, seed: str) -> None:
    await Asker(engine, name, int(place), f"{seed} {name}", at_once=4, most=12).ask()


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(process)d %(name)s %(levelname)s: %(message)s", level=logging.WARNING)
    crash_bugs.plant()
    asyncio.run(main(*sys.argv[1:]))
