"""The one place where perdure touches asyncio itself.

`asyncio.as_completed` puts its awaitables into a set before it makes tasks of them, so bare coroutines would start
in the order of their memory addresses. The functions of `asyncio.tasks` look `set` up in their module first; a
`set` there which makes tasks of coroutines in the order given, on a workflow's loop only, keeps them all
deterministic. Everywhere else it is the builtin.
"""

from __future__ import annotations

import asyncio.tasks
from asyncio.events import _get_running_loop
from collections.abc import Callable, Iterable
from typing import Any


def install(durable: Callable[[object], bool]) -> None:
    """Make `set(awaitables)` inside `asyncio.tasks` ordered for loops that `durable` is true of."""

    def ordered_set(items: Iterable[Any] = ()) -> set[Any]:
        loop = _get_running_loop()
        if loop is None or not durable(loop):
            return set(items)
        return {loop.create_task(item) if asyncio.iscoroutine(item) else item for item in items}

    asyncio.tasks.set = ordered_set  # type: ignore[attr-defined]  # a module-level name that shadows the builtin
