"""Speaking to a runner in another process: requests are written into the file, durable whether a runner lives or
not, then it is rung."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perdure.client.token import refuse_stale
from perdure.conflict import next_run
from perdure.errors import ExecutionClosed, ExecutionExists, PerdureError, StaleToken
from perdure.events import Event, Kind
from perdure.store import ExecutionRow, Parked, Store
from perdure.types import Conflict, Status

Same = Callable[[ExecutionRow, str], bool]
"""Tells whether an execution's workflow and recorded input are those of a start; None where the id was made up."""


@dataclass(slots=True)
class PendingStart:
    """A start that is not written yet."""

    row: ExecutionRow
    event: Event
    conflict: Conflict
    same: Same | None
    future: asyncio.Future[ExecutionRow]


class Remote:
    """Collects what this process asks for in one turn of its loop, and writes it in one transaction."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, store: Store, ring: Callable[[], object], now: Callable[[], int]
    ) -> None:
        self.loop = loop
        self.store = store
        self.ring = ring
        self.now = now
        self._starts: list[PendingStart] = []
        self._requests: list[tuple[Parked, asyncio.Future[None]]] = []
        self._scheduled = False

    def start(
        self, workflow: str, data: str, id: str, conflict: Conflict, timeout_us: int | None, same: Same | None
    ) -> asyncio.Future[ExecutionRow]:
        now = self.now()
        row = ExecutionRow(id, workflow, now, deadline_at=None if timeout_us is None else now + timeout_us)
        future: asyncio.Future[ExecutionRow] = self.loop.create_future()
        event = Event(1, Kind.STARTED, now, None, workflow, data)
        self._starts.append(PendingStart(row, event, conflict, same, future))
        self._schedule()
        return future

    def request(self, row: ExecutionRow, what: str, name: str | None, data: str | None) -> asyncio.Future[None]:
        future: asyncio.Future[None] = self.loop.create_future()
        self._requests.append((Parked(row, what, None, None, name, data), future))
        self._schedule()
        return future

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self.loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        starts, self._starts = self._starts, []
        requests, self._requests = self._requests, []
        try:
            if starts:
                self._create(starts)
            if requests:
                self._request(requests)
        except Exception as error:  # nobody may be left waiting
            for start in starts:
                _set(start.future, error)
            for _, future in requests:
                _set(future, error)
        self.ring()

    def _create(self, starts: list[PendingStart]) -> None:
        fresh: list[PendingStart] = []
        again: list[PendingStart] = []
        ids: set[str] = set()
        for start in starts:
            if start.row.id in ids:  # twice in one turn: the second is to meet the first in the file
                again.append(start)
                continue
            ids.add(start.row.id)
            if self._decide(start):
                fresh.append(start)
        self._write(fresh)
        if again:
            self._create(again)

    def _write(self, fresh: list[PendingStart]) -> None:
        """Insert new executions in one transaction; one by one when another process was faster with some of them."""
        if not fresh:
            return
        try:
            self.store.create([(start.row, [start.event]) for start in fresh])
        except ExecutionExists:
            for start in fresh:
                if self._decide(start):
                    self._write([start])
        except PerdureError as error:
            for start in fresh:
                _set(start.future, error)
        else:
            for start in fresh:
                _set(start.future, start.row)

    def _decide(self, start: PendingStart) -> bool:
        """Say whether the row is to be created; otherwise the future is answered."""
        row = start.row
        if start.same is None:
            return True
        try:
            existing = self.store.find(row.id)
            alike = existing is not None and start.same(existing, self.store.first_input(existing.num) or "{}")
            number = next_run(existing, alike, row.id, start.conflict)
        except PerdureError as error:
            _set(start.future, error)
            return False
        if number is None:
            _set(start.future, existing)
            return False
        row.run = number
        return True

    def _request(self, requests: list[tuple[Parked, asyncio.Future[None]]]) -> None:
        good = []
        for parked, future in requests:
            current = self.store.get(parked.row.num)
            if current is not None and current.status is Status.CONTINUED and parked.what not in ("complete", "fail"):
                current = self.store.find(current.id) or current
                parked = parked._replace(row=current)
            retry = parked.what == "retry"
            if current is None or (current.status.closed and not retry):
                _set(future, _ended(parked))
            elif retry and current.status is not Status.FAILED:
                hint = "only a failed one can be retried"
                _set(future, PerdureError(f"execution {parked.row.id} is {current.status}, not failed", hint=hint))
            elif not self._is_stale(parked, future):
                good.append((parked, future))
        try:
            if good:
                self.store.request([parked for parked, _ in good])
        except PerdureError as error:
            for _, future in good:
                _set(future, error)
        else:
            for _, future in good:
                _set(future, None)

    def _is_stale(self, parked: Parked, future: asyncio.Future[None]) -> bool:
        """Say whether a completion cannot be taken; then the future is answered."""
        if parked.what not in ("complete", "fail"):
            return False
        try:
            refuse_stale(parked.name or "", parked.row.num, self.store.history(parked.row.num))
        except PerdureError as error:
            _set(future, error)
            return True
        return False


def _ended(parked: Parked) -> PerdureError:
    if parked.what in ("complete", "fail"):
        return StaleToken(f"execution {parked.row.id} has ended", hint="nothing waits for this completion any more")
    return ExecutionClosed(f"execution {parked.row.id} has ended", hint="it takes no more input")


def _set(future: asyncio.Future[Any], value: Any) -> None:
    if future.done():
        return
    if isinstance(value, BaseException):
        future.set_exception(value)
    else:
        future.set_result(value)
