"""The greenlet bridge: a `def` workflow waits by switching away, and holds no thread while it does.

The function runs in a greenlet; when it needs a result it hands the awaitable to `drive`, a coroutine on the
workflow's own loop, which awaits it and switches back with what came.
"""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable
from typing import Any

from greenlet import getcurrent, greenlet


class WorkflowGreenlet(greenlet):
    """The greenlet of one `def` workflow."""


async def drive(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Run `fn` in a greenlet and await on this loop whatever it waits for. Gives what `fn` returns."""
    branch = WorkflowGreenlet(fn)
    branch.gr_context = contextvars.copy_context()
    outcome = branch.switch(*args, **kwargs)
    while not branch.dead:
        try:
            value = await outcome
        except BaseException as error:
            outcome = branch.throw(error)
        else:
            outcome = branch.switch(value)
    return outcome


def in_greenlet() -> bool:
    """Say whether the caller is the code of a `def` workflow."""
    return isinstance(getcurrent(), WorkflowGreenlet)


def wait_in_greenlet(awaitable: Awaitable[Any]) -> Any:
    """Wait for `awaitable` from a `def` workflow and give its result."""
    current = getcurrent()
    assert isinstance(current, WorkflowGreenlet)
    assert current.parent is not None
    return current.parent.switch(awaitable)
