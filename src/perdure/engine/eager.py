"""A task that takes its first step at once, not a turn of the loop later: most activities answer within it, or get
their request under way that much sooner."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Coroutine
from typing import Any, NoReturn


def start_eagerly(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """Make a task of `coroutine` and run it up to its first wait. Where that cannot be, inside another task, it starts
    a turn later."""
    if asyncio.current_task(loop) is not None:
        return loop.create_task(coroutine)
    try:
        if sys.version_info >= (3, 12):
            return asyncio.Task(coroutine, loop=loop, eager_start=True)
        return _step(loop, asyncio.Task(coroutine, loop=loop))
    except (KeyboardInterrupt, SystemExit) as error:  # for the loop, as from any task; our caller has more to start
        loop.call_soon(_raise, error)
        return asyncio.Task(_ended(), loop=loop)


def _step(loop: asyncio.AbstractEventLoop, task: asyncio.Task[None]) -> asyncio.Task[None]:
    """Run the step that the new task has put at the end of the loop's queue. Other loops than asyncio's own may keep
    theirs elsewhere, and another thread may have added to it meanwhile."""
    ready = getattr(loop, "_ready", None)
    if ready and getattr(ready[-1]._callback, "__self__", None) is task:
        ready.pop()._run()
    return task


async def _ended() -> None:
    """Stand for a task whose first step was its last."""


def _raise(error: BaseException) -> NoReturn:
    raise error
