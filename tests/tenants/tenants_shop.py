"""What tenants run in these tests. As a script: a process that looks after a folder until it is killed."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from perdure import Client, Signal, activity, workflow
from perdure.tenants import Tenants

go = Signal("go", str)


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
    return f"{name} {await go.receive()}"


@workflow
async def nap(pause_s: float) -> str:
    await asyncio.sleep(pause_s)
    return "slept"


ALL = [count, wait, nap]


def client(folder: Path, name: str) -> Client:
    """Reach a tenant as another process would: through its file."""
    return Client(folder / f"{name}.db", create=True)


async def _look_after(folder: Path) -> None:
    async with Tenants(folder, ALL, idle_s=0.2):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_look_after(Path(sys.argv[1])))
