"""The blocking facade: the same client and engine for programs that are not asynchronous.

    with Blocking(Engine("shop.db", workflows=[fulfil])) as engine:
        execution = engine.start(fulfil, order, id="order-42")
        print(execution.result())

The event loop runs in a thread of its own; each method hands its coroutine over and waits. Usable from any thread.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Sequence
from types import TracebackType
from typing import Any, Generic, Self, TypeVar, overload

from perdure.client import Client, Execution
from perdure.errors import EngineClosed
from perdure.store import Filter
from perdure.types import Conflict, ExecutionInfo, HistoryEvent, Status
from perdure.workflow import Signal, Workflow

R = TypeVar("R")
T = TypeVar("T")


class Blocking:
    """A `Client` or an `Engine`, used without async. See `Client` for what each method does and raises."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="perdure-loop", daemon=True)
        self._thread.start()
        try:
            self._call(self.client.__aenter__())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._call(self.client.__aexit__(kind, error, trace))
        finally:
            self._stop()

    def start(
        self,
        workflow: Workflow[..., Any, R],
        *args: Any,
        id: str | None = None,
        on_conflict: Conflict | str = Conflict.JOIN,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> BlockingExecution[R]:
        started = self.client.start(workflow, *args, id=id, on_conflict=on_conflict, timeout_s=timeout_s, **kwargs)
        return BlockingExecution(self._call(started), self._call)

    def start_by_name(
        self,
        workflow: str,
        arguments: dict[str, Any],
        *,
        id: str | None = None,
        on_conflict: Conflict | str = Conflict.JOIN,
        timeout_s: float | None = None,
    ) -> BlockingExecution[Any]:
        started = self.client.start_by_name(workflow, arguments, id=id, on_conflict=on_conflict, timeout_s=timeout_s)
        return BlockingExecution(self._call(started), self._call)

    def execution(self, id: str, workflow: Workflow[..., Any, R] | None = None) -> BlockingExecution[R]:
        return BlockingExecution(self.client.execution(id, workflow), self._call)

    def list(self, filter: Filter | None = None) -> Sequence[ExecutionInfo]:
        return self._call(self.client.list(filter))

    def describe(self, id: str, run: int | None = None) -> ExecutionInfo:
        return self._call(self.client.describe(id, run))

    def counts(self) -> dict[Status, int]:
        return self._call(self.client.counts())

    def complete(self, token: str, value: Any = None) -> None:
        self._call(self.client.complete(token, value))

    def fail(self, token: str, error: BaseException) -> None:
        self._call(self.client.fail(token, error))

    def gc(self, **options: Any) -> int:
        return self._call(self.client.gc(**options))

    def _call(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            coroutine.close()
            raise EngineClosed("not open", hint="use it inside `with Blocking(…)`")
        future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # a Ctrl-C here must not leave it waiting there
            raise

    def _stop(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None and self._thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            self._thread.join()
            loop.close()


class BlockingExecution(Generic[R]):
    """The handle of one execution, used without async. See `Execution` for what each method does and raises."""

    def __init__(self, execution: Execution[R], call: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        self.execution = execution
        self.id = execution.id
        self._call = call

    def result(self, timeout_s: float | None = None) -> R:
        result: R = self._call(self.execution.result(timeout_s))
        return result

    @overload
    def signal(self, signal: Signal[T], value: T) -> None: ...
    @overload
    def signal(self, signal: str, value: Any = None) -> None: ...
    def signal(self, signal: Signal[Any] | str, value: Any = None) -> None:
        self._call(self.execution.signal(signal, value))

    def cancel(self, reason: str | None = None) -> None:
        self._call(self.execution.cancel(reason))

    def terminate(self, reason: str | None = None) -> None:
        self._call(self.execution.terminate(reason))

    def pause(self, reason: str | None = None) -> None:
        self._call(self.execution.pause(reason))

    def resume(self) -> None:
        self._call(self.execution.resume())

    def retry(self) -> None:
        self._call(self.execution.retry())

    def info(self) -> ExecutionInfo:
        info: ExecutionInfo = self._call(self.execution.info())
        return info

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = self._call(self.execution.state())
        return state

    def history(self, *, run: int | None = None, after: int = 0) -> list[HistoryEvent]:
        async def collect() -> list[HistoryEvent]:
            return [event async for event in self.execution.history(run=run, after=after)]

        events: list[HistoryEvent] = self._call(collect())
        return events
