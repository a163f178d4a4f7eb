"""What a durable call returns inside a workflow: an awaitable that is also a handle.

A `Call` is an asyncio future of the workflow's own loop, so `await`, `gather`, `wait` and `shield` take it as it
is. Its hash is the order in which it was made, so that sets of calls iterate the same way in every process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perdure.replay.bridge import wait_in_greenlet

if TYPE_CHECKING:
    from perdure.replay.run import Run

R = TypeVar("R")


class Call(asyncio.Future[R], Generic[R]):
    """A durable call in progress: an activity, a child workflow or the receiving of a signal.

    `await call` in an `async def` workflow, `call.result()` in a `def` one.
    """

    run: Run
    target: Any
    """The activity, workflow or signal that was called, with the options of this call."""
    seq: int
    """The event that started it; 0 for the receiving of a signal."""
    data: str
    """Its arguments as JSON, by name."""
    decode: Callable[[str], R]
    order: int
    execution_id: str | None = None
    """The id of the child; None for an activity."""
    cancel_sent: bool = False
    on_cancel: Callable[[Call[Any]], bool] | None
    """Told of a cancellation; true when the call ends at once, false when it ends with its own end event."""

    def __init__(
        self,
        run: Run,
        target: Any,
        seq: int,
        data: str,
        decode: Callable[[str], R],
        on_cancel: Callable[[Call[Any]], bool] | None = None,
    ) -> None:
        super().__init__(loop=run.loop)
        self.run = run
        self.target = target
        self.seq = seq
        self.data = data
        self.decode = decode
        self.on_cancel = on_cancel
        run.made += 1
        self.order = run.made

    def __hash__(self) -> int:
        return self.order

    def __eq__(self, other: object) -> bool:
        return self is other

    def cancel(self, msg: Any | None = None) -> bool:
        """Cancel it. An activity's call ends at once and the activity is told; a child's ends when the child has
        ended."""
        if self.done():
            return False
        if self.on_cancel is not None and not self.on_cancel(self):
            return True
        return super().cancel(msg)

    def cancelled_by_end(self) -> None:
        """End as cancelled because the other side did; tells nobody."""
        super().cancel()

    def result(self) -> R:
        """Give the result. In a `def` workflow this waits for it, without holding a thread."""
        if not self.done():
            wait_in_greenlet(self)
        return super().result()

    def __del__(self) -> None:
        # asyncio logs an error when a failed future is dropped unread; here the log already has the failure
        self._log_traceback = False
