"""What the second process does: `python -m bench.jobs.client WHAT DATABASE COUNT`. Prints its figures as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from bench.jobs.definitions import check, collect, ping, sequence, total_of
from bench.jobs.latency import measured, percentiles
from perdure import Client

SENDERS = 100
SETTLE_S = 1.0


async def latency(client: Client, count: int) -> dict[str, float]:
    await measured(client, count // 10)  # this process's own warm-up
    return percentiles(await measured(client, count))


async def signals(client: Client, count: int) -> dict[str, float]:
    """Send `count` signals to one workflow, a hundred senders at once, each sending the next when its last is durable;
    signals/s until the workflow, which has received them all, has its result."""
    await (await client.start(sequence, 1)).result()
    execution = await client.start(collect, count)
    numbers = iter(range(count))

    async def send() -> None:
        for n in numbers:
            await execution.signal(ping, n)

    started = time.perf_counter()
    await asyncio.gather(*(send() for _ in range(SENDERS)))
    total = await execution.result()
    elapsed_s = time.perf_counter() - started
    check([total], total_of(count))
    return {"": count / elapsed_s}


async def wait(client: Client, seconds: int) -> dict[str, float]:
    """Wait for an execution that does not end; percent of one CPU."""
    execution = await client.start(collect, 1)
    waiting = asyncio.create_task(execution.result())
    await asyncio.sleep(SETTLE_S)
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    used = (time.process_time() - cpu) / (time.perf_counter() - began) * 100
    waiting.cancel()
    return {"client": used}


DOES: dict[str, Callable[[Client, int], Awaitable[dict[str, float]]]] = {
    "latency": latency,
    "signals": signals,
    "wait": wait,
}


async def _run(what: str, path: Path, count: int) -> dict[str, float]:
    async with Client(path) as client:
        return await DOES[what](client, count)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_run(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))))
