"""The one place where perdure touches asyncio itself.

`asyncio.as_completed` puts its awaitables into a set before it makes tasks of them, so bare coroutines would start
in the order of their memory addresses. The functions of `asyncio.tasks` look `set` up in their module first; a
`set` there which makes tasks of coroutines in the order given, on a workflow's loop only, keeps them all
deterministic. Likewise the future that `gather` makes hashes by its address; there it is numbered as tasks are.
Everywhere else both are what they were.
"""

from __future__ import annotations

import asyncio.tasks
from asyncio.events import _get_running_loop
from collections.abc import Callable, Iterable
from typing import Any

_Plain: Any = asyncio.tasks._GatheringFuture  # type: ignore[attr-defined]  # what `asyncio.gather` gives


class _Numbered(_Plain):  # type: ignore[misc]  # the base is private to asyncio
    """What `asyncio.gather` gives in a workflow."""

    order = 0

    def __hash__(self) -> int:
        return self.order


def install(next_order: Callable[[object], int | None]) -> None:
    """Make `asyncio.tasks` deterministic for the loops that `next_order` numbers; it gives None for others."""

    def ordered_set(items: Iterable[Any] = ()) -> set[Any]:
        loop = _get_running_loop()
        if loop is None or next_order(loop) is None:
            return set(items)
        return {loop.create_task(item) if asyncio.iscoroutine(item) else item for item in items}

    def gathering(children: Iterable[Any], *, loop: Any) -> Any:
        order = next_order(loop)
        if order is None:
            return _Plain(children, loop=loop)
        made = _Numbered(children, loop=loop)
        made.order = order
        return made

    asyncio.tasks.set = ordered_set  # type: ignore[attr-defined]  # a module-level name that shadows the builtin
    asyncio.tasks._GatheringFuture = gathering  # type: ignore[attr-defined]
