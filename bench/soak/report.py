"""What a process of the long run says about itself: a line of JSON on its standard output each time it is asked."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterable
from typing import Any

TICK_S = 0.02


class Lag:
    """How late the event loop runs what was to run now: the largest and the median since the last look."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    async def watch(self) -> None:
        """Go on until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + TICK_S
            await asyncio.sleep(TICK_S)
            self.seconds.append(loop.time() - due)

    def take(self) -> dict[str, float]:
        found, self.seconds = sorted(self.seconds) or [0.0], []
        return {"lag_ms": found[len(found) // 2] * 1e3, "lag_p95_ms": found[len(found) * 95 // 100] * 1e3}


def alive(tasks: Iterable[asyncio.Task[Any]]) -> None:
    """Raise what one of the tasks raised: all of them are to go on for ever."""
    for task in tasks:
        if task.done():
            raise RuntimeError(f"{task.get_coro()} ended") from task.exception()


async def answer(facts: Callable[[], dict[str, Any]], work: Iterable[asyncio.Task[Any]]) -> None:
    """Print the facts for each line on the standard input, until that ends. Raises when some of the work has ended."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.readline():
        alive(work)
        print(json.dumps({**facts(), "blocks": sys.getallocatedblocks()}), flush=True)
