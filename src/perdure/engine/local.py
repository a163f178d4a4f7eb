"""Speaking to the runner in this process: an input in its queue, an answer after its commit."""

from __future__ import annotations

import asyncio

from perdure.client.remote import Same
from perdure.engine.inputs import Deliver, Request, Start
from perdure.engine.runner import Runner
from perdure.errors import EngineClosed
from perdure.events import Kind
from perdure.store import ExecutionRow
from perdure.types import Conflict


class Local:
    """The gateway of an engine that is the runner."""

    def __init__(self, runner: Runner) -> None:
        self.runner = runner

    def start(
        self, workflow: str, data: str, id: str, conflict: Conflict, timeout_us: int | None, same: Same | None
    ) -> asyncio.Future[ExecutionRow]:
        future: asyncio.Future[ExecutionRow] = self.runner.loop.create_future()
        if not self._refused(future):
            self.runner.submit(Start(workflow, data, id, conflict, timeout_us, same is None, future))
        return future

    def request(self, row: ExecutionRow, what: str, name: str | None, data: str | None) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.runner.loop.create_future()
        if self._refused(future):
            return future
        if what == "signal":
            self.runner.submit(Deliver(row, Kind.SIGNAL_RECEIVED, None, name, data, None, future))
        else:
            self.runner.submit(Request(row, what, name, data, None, future))
        return future

    def _refused(self, future: asyncio.Future[ExecutionRow] | asyncio.Future[None]) -> bool:
        if self.runner.draining or self.runner.closed:
            future.set_exception(EngineClosed("the engine is closing", hint="start a new one; nothing was lost"))
            return True
        return False
