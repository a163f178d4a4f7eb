"""The workflows and activities of the jobs, and an engine that is warm."""

from __future__ import annotations

import asyncio
import base64
import random
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Literal

from perdure import Engine, Signal, Workflow, activity, now, sleep, workflow

WARM_UP_STEPS = 1_000

TEXT = base64.b64encode(random.Random(20_260_101).randbytes(1_000_000)).decode()
"""Text that hardly compresses; what `echoes` sends is another piece of it in each step."""
stamps: list[float] = []
"""When `stamped` ran, by the performance counter."""
late_s: list[float] = []
"""By how much each `nap` went on late."""
ping = Signal("ping", int)


@activity
async def noop(n: int) -> int:
    return n


@activity
async def echo(text: str) -> str:
    return text


@activity
def plain_noop(n: int) -> int:
    return n


@activity
async def stamped(n: int) -> int:
    stamps.append(time.perf_counter())
    return n


@activity
async def awake(due_s: float) -> None:
    late_s.append(time.time() - due_s)


@workflow
async def one_step(n: int) -> int:
    return await noop(n)


@workflow
async def sequence(steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await noop(n)
    return total


@workflow
async def stamped_sequence(steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await stamped(n)
    return total


@workflow
async def echoes(steps: int, size: int) -> int:
    total = 0
    for n in range(steps):
        total += len(await echo(TEXT[n : n + size]))
    return total


@workflow
def plain_sequence(steps: int) -> int:
    total = 0
    for n in range(steps):
        total += plain_noop(n)
    return total


@workflow
def plain_nap(delay_s: float) -> None:
    sleep(delay_s)


@workflow
async def nap(delay_s: float) -> None:
    due_s = now().timestamp() + delay_s
    await asyncio.sleep(delay_s)
    await awake(due_s)


@workflow
async def family(children: int) -> int:
    return sum(await asyncio.gather(*(one_step(n) for n in range(children))))


@workflow
async def collect(signals: int) -> int:
    total = 0
    for _ in range(signals):
        total += await ping.receive()
    return total


WORKFLOWS: tuple[Workflow[..., Any, Any], ...] = (
    one_step, sequence, stamped_sequence, echoes, plain_sequence, plain_nap, nap, family, collect,
)  # fmt: skip


@asynccontextmanager
async def warm_engine(folder: Path, synchronous: Literal["full", "normal"] = "full") -> AsyncIterator[Engine]:
    """Open an engine on a new database in `folder`; it has run a thousand steps."""
    async with Engine(database(folder), workflows=WORKFLOWS, synchronous=synchronous) as engine:
        warm_up = await engine.start(sequence, WARM_UP_STEPS, id="warm-up")
        await warm_up.result()
        yield engine


def database(folder: Path) -> Path:
    return folder / "bench.db"


def check(found: Sequence[int], expected: int) -> None:
    """Refuse to measure work that came out wrong."""
    if any(value != expected for value in found):
        raise RuntimeError(f"a wrong result: expected {expected}, got {set(found)}")


def total_of(steps: int) -> int:
    """What `sequence` and its like return."""
    return steps * (steps - 1) // 2
