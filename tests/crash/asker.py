"""A process that asks through a client, until it is killed: `asker.py NAME PLACE SEED`."""

from __future__ import annotations

import asyncio
import sys

from crash_asker import Asker
from crash_ledger import Places

from perdure import Client


async def main(name: str, place: str, seed: str) -> None:
    async with Client(Places.here().database, codec=Places.codec()) as client:
        print("ready", flush=True)
        await Asker(client, name, int(place), f"{seed} {name}", at_once=10, most=40).ask()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
