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
    not stop them. A step that fails does not stop the ones before it either; its error is added to the raised one
    as a note. `with Saga()` in `def` workflows.
    """

    def __init__(self) -> None:
        self._steps: list[tuple[_Submits, tuple[Any, ...], dict[str, Any]]] = []

    def add(self, undo: _Submits, *args: Any, **kwargs: Any) -> None:
        """Register `undo(*args, **kwargs)`, an activity or a child workflow, for the case that the block fails."""
        if not hasattr(undo, "submit"):
            raise TypeError(f"an undo step is an activity or a workflow, not {undo!r}")
        self._steps.append((undo, args, kwargs))

    async def undo(self, error: BaseException | None = None) -> None:
        """Run the registered steps in reverse and forget them."""
        while self._steps:
            step, args, kwargs = self._steps.pop()
            try:
                await _finish(step.submit(*args, **kwargs))
            except Exception as failed:
                if error is not None:
                    error.add_note(f"undo step {step.name} failed: {type(failed).__name__}: {failed}")

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


async def _finish(call: Any) -> Any:
    """Await `call` to its end; a cancellation from an inner scope (a timeout around the saga) does not reach it."""
    while True:
        try:
            return await asyncio.shield(call)
        except asyncio.CancelledError:
            if call.done():
                raise
