"""A client that stands still in the middle of its commit: `half_client.py DATABASE`. Prints `half` when it does."""

from __future__ import annotations

import asyncio
import sys

import standstill

from perdure import Client


async def main(path: str) -> None:
    async with Client(path) as client:
        standstill.arm()
        await client.start_by_name("hello", {"name": "nobody"}, id="half")


standstill.install()
asyncio.run(main(sys.argv[1]))
