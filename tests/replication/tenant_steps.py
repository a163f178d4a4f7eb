"""A workflow that leaves a line for each of its steps: which tenant's, which step, in which process."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from perdure import activity, workflow


@activity
async def mark(tenant: str, n: int) -> None:
    with Path(os.environ["STEPS"]).open("a") as file:
        file.write(f"{tenant} {n} {os.getpid()}\n")


@workflow
async def walk(tenant: str, steps: int, pause_s: float) -> int:
    for n in range(steps):
        await mark(tenant, n)
        await asyncio.sleep(pause_s)
    return steps
