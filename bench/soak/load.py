"""Customers: each starts something, does to it what people do, checks what comes out, and thinks before the next.

The number of customers is fixed, so a slow machine makes the load smaller and nothing piles up: what grows was kept
by someone who should not have kept it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.soak import workflows as w
from perdure import Client, Execution, Status
from perdure.errors import ExecutionCancelled, ExecutionClosed, ExecutionTerminated, PerdureError

PATIENCE_S = 120.0
"""Nothing here takes a second; what is not over by then is stuck."""


class Wrong(Exception):
    """Something came out that must not."""


class Meter:
    """What the customers of a process did since the last look."""

    def __init__(self) -> None:
        self.done = 0
        self.latencies_s: list[float] = []
        self.wrong: list[str] = []
        self._last_s = [0.0]

    def take(self) -> dict[str, Any]:
        """Give the counts and latencies (ms) since the last call, and start anew."""
        latencies = self._last_s = sorted(self.latencies_s) or self._last_s
        found = {
            "done": self.done,
            "start_result_ms": latencies[len(latencies) // 2] * 1e3,
            "start_result_p95_ms": latencies[len(latencies) * 95 // 100] * 1e3,
            "wrong": self.wrong,
        }
        self.done, self.latencies_s, self.wrong = 0, [], []
        return found


class Customer:
    """One of them. `name` makes its ids its own; `pause_s` is how long it thinks, in the mean."""

    def __init__(self, client: Client, meter: Meter, name: str, choose: random.Random, pause_s: float) -> None:
        self.client = client
        self.meter = meter
        self.name = name
        self.choose = choose
        self.pause_s = pause_s
        self.count = 0

    async def shop(self) -> None:
        """Go on until cancelled."""
        kinds: list[Callable[[str, int], Awaitable[None]]] = [
            self.probe, self.probe, self.probe, self.pipeline, self.family, self.approval, self.cancel, self.flaky,
            self.undone, self.count_up, self.plainly, self.large, self.hold, self.terminate,
        ]  # fmt: skip
        while True:
            kind = self.choose.choice(kinds)
            self.count += 1
            id, n = f"{self.name}-{self.count}-{kind.__name__}", self.choose.randint(1, 5)
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await kind(id, n)
            except (Wrong, PerdureError, TimeoutError) as error:
                self.meter.wrong.append(f"{id} ({n}): {type(error).__name__}: {error}")
            self.meter.done += 1
            await asyncio.sleep(self.choose.uniform(0, 2 * self.pause_s))

    async def probe(self, id: str, n: int) -> None:
        began = time.perf_counter()
        execution = await self.client.start(w.probe, n, id=id)
        _same(await execution.result(), n)
        self.meter.latencies_s.append(time.perf_counter() - began)

    async def pipeline(self, id: str, n: int) -> None:
        execution = await self.client.start(w.pipeline, n, id=id)
        _same(await execution.result(), list(range(n + 2)))
        _same(await execution.state(), {"done": n - 1})

    async def family(self, id: str, n: int) -> None:
        execution = await self.client.start(w.family, n, id=id)
        _same(await execution.result(), n * (n - 1) // 2)

    async def approval(self, id: str, n: int) -> None:
        """Approve, refuse, or let the time pass."""
        wait_s = 0.2 if n == 1 else 600.0
        execution = await self.client.start(w.approval, wait_s, id=id, timeout_s=3_600)
        if n > 1:
            await execution.signal(w.approved, n > 2)
        _same(await execution.result(), "late" if n == 1 else "approved" if n > 2 else "refused")

    async def cancel(self, id: str, n: int) -> None:
        execution = await self.client.start(w.guarded, n, id=id)
        await execution.cancel("enough")
        await _ends_with(execution, ExecutionCancelled)

    async def terminate(self, id: str, n: int) -> None:
        execution = await self.client.start(w.guarded, n, id=id)
        await execution.terminate("enough")
        await _ends_with(execution, ExecutionTerminated)

    async def flaky(self, id: str, n: int) -> None:
        execution = await self.client.start(w.flaky, n, id=id)
        _same(await execution.result(), [*(i % 3 for i in range(n)), n])

    async def undone(self, id: str, n: int) -> None:
        """Have it fail, and fail again when it is retried."""
        execution = await self.client.start(w.undone, n, id=id)
        await _ends_with(execution, w.Rejected)
        if n > 2:
            await execution.retry()
            await _ends_with(execution, w.Rejected)

    async def count_up(self, id: str, n: int) -> None:
        execution = await self.client.start(w.count_up, n, id=id)
        _same(await execution.result(), list(range(1, n + 1)))

    async def plainly(self, id: str, n: int) -> None:
        execution = await self.client.start(w.plainly, n, id=id)
        _same(await execution.result(), list(range(n)))

    async def large(self, id: str, n: int) -> None:
        execution = await self.client.start(w.large, n, id=id)
        _same(await execution.result(), sum(80_000 + 2 * i for i in range(n)))

    async def hold(self, id: str, n: int) -> None:
        """Pause and resume; read what is there."""
        execution = await self.client.start(w.pipeline, n, id=id)
        await execution.pause("for a moment")
        _same((await execution.info()).status in (Status.PAUSED, Status.PENDING, Status.RUNNING, Status.WAITING), True)
        with contextlib.suppress(ExecutionClosed):  # the request to pause came too late, and so does this one
            await execution.resume()
        _same(await execution.result(), list(range(n + 2)))
        _same([event.kind async for event in execution.history()][-1], "completed")


async def complete_outside(client: Client, id: str) -> None:
    """Start an activity that is completed from outside, by this process, which is the one that runs it."""
    token = w.tokens[id] = asyncio.get_running_loop().create_future()
    try:
        execution = await client.start(w.outside, 0, id=id)
        await client.complete(await token, id)
        _same(await execution.result(), id)
    finally:
        del w.tokens[id]


def _same(found: Any, expected: Any) -> None:
    if found != expected:
        raise Wrong(f"{found!r} in place of {expected!r}")


async def _ends_with(execution: Execution[Any], error: type[BaseException]) -> None:
    try:
        found = await execution.result()
    except error:
        return
    raise Wrong(f"{found!r} in place of {error.__name__}")
