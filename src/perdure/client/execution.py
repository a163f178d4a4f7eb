"""The handle of one execution."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast, overload

import msgspec

from perdure.codec import decode_failure, rebuild_failure
from perdure.codec.payload import DecodeError
from perdure.errors import ExecutionCancelled, ExecutionTerminated, InvalidValue
from perdure.events import Event, Kind
from perdure.store import ExecutionRow
from perdure.types import Durability, ExecutionInfo, HistoryEvent
from perdure.workflow import Signal, Workflow

if TYPE_CHECKING:
    from perdure.client.client import Client

R = TypeVar("R")
T = TypeVar("T")


class Execution(Generic[R]):
    """A handle: cheap, made by `start` and `client.execution(id)`. It follows the newest run of its id."""

    def __init__(
        self, client: Client, id: str, workflow: Workflow[..., Any, R] | None, durability: Durability = Durability.LOCAL
    ) -> None:
        self.client = client
        self.id = id
        self.workflow = workflow
        self.durability = durability
        """What has to have happened before a call of this handle returns."""

    async def result(self, timeout_s: float | None = None) -> R:
        """Wait for the end and give the result.

        Raises what the workflow raised, `ExecutionCancelled`, `ExecutionTerminated`, `ExecutionNotFound`, or
        `TimeoutError` when it is not over after `timeout_s` seconds (it goes on all the same).
        """
        if timeout_s is None:
            row, event = await self.client._ended(self.id)
        else:
            async with asyncio.timeout(timeout_s):
                row, event = await self.client._ended(self.id)
        if self.durability is Durability.REPLICATED:
            await self.client._keep(self.durability)
        return self._outcome(row, event)

    def _outcome(self, row: ExecutionRow, event: Event | None) -> R:
        if event is None or event.kind is Kind.TERMINATED:
            raise ExecutionTerminated(f"execution {self.id} was terminated{_reason(event)}")
        if event.kind is Kind.CANCELLED:
            raise ExecutionCancelled(f"execution {self.id} was cancelled{_reason(event)}")
        if event.kind is Kind.FAILED:
            error = rebuild_failure(decode_failure(event.data or "{}"))
            error.add_note(f"raised by execution {self.id} (workflow {row.workflow})")
            raise error
        data = event.data or "null"
        if self.workflow is not None:
            return cast(R, self.workflow.returns.decode(data))
        return cast(R, _plain(data, f"the result of execution {self.id}"))

    @overload
    async def signal(self, signal: Signal[T], value: T) -> None: ...
    @overload
    async def signal(self, signal: str, value: Any = None) -> None: ...
    async def signal(self, signal: Signal[Any] | str, value: Any = None) -> None:
        """Send a value; returns once it is durable. Raises `InvalidValue`, `ExecutionNotFound` or `ExecutionClosed`."""
        if isinstance(signal, Signal):
            await self.client._signal(self.id, signal.name, signal.value.check(value))
        else:
            await self.client._signal(self.id, signal, Signal(signal).value.check(value))
        await self.client._keep(self.durability)

    async def cancel(self, reason: str | None = None) -> None:
        """Ask it to stop: its code gets `CancelledError` and may clean up. Returns once the request is durable."""
        await self._request("cancel", _json(reason))

    async def terminate(self, reason: str | None = None) -> None:
        """End it at once, without running any cleanup."""
        await self._request("terminate", _json(reason))

    async def pause(self, reason: str | None = None) -> None:
        """Hold it: running attempts end, but nothing new starts and its code does not run until `resume`."""
        await self._request("pause", _json(reason))

    async def resume(self) -> None:
        """Let a paused execution go on; what came meanwhile is delivered in order."""
        await self._request("resume")

    async def retry(self) -> None:
        """Open a failed execution again just before what made it fail, and try that anew."""
        await self._request("retry")

    async def _request(self, what: str, data: str | None = None) -> None:
        await self.client._request(self.id, what, None, data)
        await self.client._keep(self.durability)

    async def info(self) -> ExecutionInfo:
        """Describe it. Raises `ExecutionNotFound`."""
        return await self.client.describe(self.id)

    async def state(self) -> dict[str, Any]:
        """Give its readable state, as last committed."""
        found = self.client._state(self.id)
        return {key: _plain(data, f"the state {key} of execution {self.id}") for key, data in found.items()}

    async def history(self, *, run: int | None = None, after: int = 0) -> AsyncIterator[HistoryEvent]:
        """Give its events with `seq` above `after`, in order, page by page: of one run, by default the newest."""
        if run is None:
            run = (await self.info()).run
        while True:
            page = await self.client._events(self.id, run, after)
            for event in page:
                yield event
            if not page:
                return
            after = page[-1].seq

    def __repr__(self) -> str:
        return f"<execution {self.id}>"


def _json(reason: str | None) -> str:
    try:
        return msgspec.json.encode(reason).decode()
    except UnicodeEncodeError as error:
        raise InvalidValue(f"a reason cannot be {reason!r}: {error}", hint="leave out what is not text") from error


def _plain(data: str, what: str) -> Any:
    """Read JSON without a type to go by."""
    try:
        return msgspec.json.decode(data)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise DecodeError(f"{what} cannot be read: {error}", hint="the database may be damaged") from error


def _reason(event: Event | None) -> str:
    try:
        text = msgspec.json.decode(event.data, type=str | None) if event is not None and event.data else None
    except (msgspec.MsgspecError, RecursionError):
        return ""
    return f": {text}" if text else ""
