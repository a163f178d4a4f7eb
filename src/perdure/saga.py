"""Compensation: undo steps that run in reverse when the work after them fails or is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol

from perdure.replay.bridge import in_greenlet, wait_in_greenlet


class _Submits(Protocol):
    """An activity or a workflow."""

    name: str

    @property
    def submit(self) -> Callable[..., Any]: ...


class Saga:
    """Undo steps for the work inside the block, each a durable call.

        async with Saga() as saga:
            charge_id = await charge(order)
            saga.add(refund, charge_id)

    When the block raises or is cancelled, the steps run in reverse order, one after the other; a cancellation does
    not stop them, it is raised when they are done. A step that fails does not stop the ones before it either; its
    error is added to the raised one as a note. `with Saga()` in `def` workflows.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[_Submits, tuple[Any, ...], dict[str, Any]]] = []

    def add(self, undo: _Submits, *args: Any, **kwargs: Any) -> None:
        """Register `undo(*args, **kwargs)`, an activity or a child workflow, for the case that the block fails."""
        if not hasattr(undo, "submit"):
            raise TypeError(f"an undo step is an activity or a workflow, not {undo!r}")
        self._steps.append((undo, args, kwargs))

    async def undo(self, error: BaseException | None = None) -> None:
        """Run the registered steps in reverse and forget them. A cancellation that arrives meanwhile waits until they
        are done."""
        cancelled: asyncio.CancelledError | None = None
        while self._steps:
            step, args, kwargs = self._steps.pop()
            failed: BaseException | None
            try:
                call = step.submit(*args, **kwargs)
            except Exception as refused:  # its arguments do not fit, for example
                failed = refused
            else:
                cancelled = await _finish(call) or cancelled
                failed = asyncio.CancelledError() if call.cancelled() else call.exception()
            if failed is not None and error is not None:
                error.add_note(f"undo step {step.name} failed: {type(failed).__name__}: {failed}")
        if cancelled is not None:
            raise cancelled

    async def __aenter__(self) -> Saga:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception | asyncio.CancelledError):
            await self.undo(error)

    def __enter__(self) -> Saga:
        if not in_greenlet():
            raise TypeError("in an `async def` workflow write `async with Saga()`")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, Exception | asyncio.CancelledError):
            wait_in_greenlet(self.undo(error))


async def _finish(call: Any) -> asyncio.CancelledError | None:
    """Wait for `call` to its end; give the last cancellation that came meanwhile, which does not reach it."""
    cancelled: asyncio.CancelledError | None = None
    while not call.done():
        try:
            await asyncio.wait([call])
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled
