"""Another process that asks: `python -m bench.soak.asker DATABASE SEED PAUSE_S KEEP_S`.

Customers of its own, visitors (clients that open the file for one question), a steady stream of signals to the
execution that never ends, and retention. It prints its facts for each line on its standard input; when that ends, it
looks whether all signals arrived.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
import random
import sys

from bench.soak.load import PATIENCE_S, Customer, Meter
from bench.soak.report import Lag, answer
from bench.soak.workflows import beat, monitor, probe
from perdure import Client, Filter, Status

CUSTOMERS = 4
GC_EVERY_S = 2.0


class Asker:
    def __init__(self, database: str, seed: str, pause_s: float, keep_s: float) -> None:
        self.database = database
        self.seed = seed
        self.pause_s = pause_s
        self.keep_s = keep_s
        self.meter = Meter()
        self.beats = 0
        self.deleted = 0
        self.kept = 0
        """Executions in the file, when last looked at."""

    async def run(self) -> None:
        lag = Lag()
        async with Client(self.database) as client:
            work = [
                asyncio.create_task(
                    Customer(client, self.meter, f"other{n}", random.Random(f"{self.seed} o{n}"), self.pause_s).shop()
                )
                for n in range(CUSTOMERS)
            ]
            more = (self.beat(client), self.clean(client), self.visit(), self.look(client), lag.watch())
            work += [asyncio.create_task(each) for each in more]
            print("ready", flush=True)
            await answer(lambda: {**self.meter.take(), **lag.take(), "deleted": self.deleted, "kept": self.kept}, work)
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            print(json.dumps({"beats": self.beats, "arrived": await self.arrived(client)}))

    async def beat(self, client: Client) -> None:
        """Send signals to an execution that continues as new every few of them."""
        execution = client.execution("monitor", monitor)
        while True:
            await execution.signal(beat, 1)
            self.beats += 1
            await asyncio.sleep(self.pause_s / 5)

    async def arrived(self, client: Client) -> int:
        """Wait until all signals that were sent have arrived; give how many did."""
        found = -1
        for _ in range(int(PATIENCE_S / 0.05)):
            found = int((await client.execution("monitor").state()).get("beats", 0))
            if found >= self.beats:
                break
            await asyncio.sleep(0.05)
        return found

    async def clean(self, client: Client) -> None:
        """Delete what ended a while ago."""
        while True:
            self.deleted += await client.gc(older_than_s=self.keep_s)
            await asyncio.sleep(min(GC_EVERY_S, self.keep_s / 2))

    async def visit(self) -> None:
        """Come, ask one thing, and go, as a command line does."""
        for n in itertools.count():
            async with Client(self.database) as client:
                execution = await client.start(probe, n, id=f"visit-{n}")
                if await execution.result() != n:
                    self.meter.wrong.append(f"visit-{n}")
            self.meter.done += 1
            await asyncio.sleep(self.pause_s)

    async def look(self, client: Client) -> None:
        """Read what a person reads."""
        while True:
            await client.list(Filter(status=(Status.RUNNING, Status.WAITING), limit=50))
            self.kept = sum((await client.counts()).values())
            await asyncio.sleep(4 * self.pause_s)


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(name)s: %(message)s", level=logging.ERROR)  # nothing is to be heard
    asyncio.run(Asker(sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])).run())
