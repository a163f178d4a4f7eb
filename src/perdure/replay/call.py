"""What a durable call returns inside a workflow: an awaitable that is also a handle.

A `Call` is an asyncio future of the workflow's own loop, so `await`, `gather`, `wait` and `shield` take it as it
is. Its hash is the order in which it was made, so that sets of calls iterate the same way in every process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from perdure.errors import NonDeterminismError
from perdure.replay.bridge import in_greenlet, wait_in_greenlet

if TYPE_CHECKING:
    from perdure.replay.run import Run

R = TypeVar("R")
_done, _result = asyncio.Future.done, asyncio.Future.result


class Call(asyncio.Future[R], Generic[R]):
    """A durable call in progress: an activity, a child workflow or the receiving of a signal.

    `await call` in an `async def` workflow, `call.result()` in a `def` one.
    """

    __slots__ = ("cancel_sent", "data", "decode", "execution_id", "on_cancel", "order", "run", "seq", "target")

    def __init__(
        self,
        run: Run,
        target: Any,
        seq: int,
        data: str,
        decode: Callable[[str], R],
        on_cancel: Callable[[Call[Any]], bool] | None = None,
    ) -> None:
        asyncio.Future.__init__(self, loop=run.loop)
        self.run = run
        self.target = target
        """The activity, workflow or signal that was called, with the options of this call."""
        self.seq = seq
        """The event that started it; 0 for the receiving of a signal."""
        self.data = data
        """Its arguments as JSON, by name."""
        self.decode = decode
        self.on_cancel = on_cancel
        """Told of a cancellation; true when the call ends at once, false when it ends with its own end event."""
        self.execution_id: str | None = None
        """The id of the child; None for an activity."""
        self.cancel_sent = False
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
        if not _done(self):
            if not in_greenlet():
                error = NonDeterminismError(
                    "the result is not there yet, and an `async def` workflow cannot block",
                    hint="write `await call` instead of `call.result()`, or make the workflow a plain `def`",
                )
                raise self.run.refused(error)
            wait_in_greenlet(self)
        return _result(self)

    def _fail(self, error: BaseException) -> None:
        """End with an error. asyncio would log one that nobody reads; here the history has it."""
        self.set_exception(error)
        self._log_traceback = False
