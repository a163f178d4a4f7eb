"""Opening a database from any process: start, signal, cancel, read and await executions."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

import msgspec

from perdure.client.execution import Execution
from perdure.client.remote import Remote, Same
from perdure.client.token import seal
from perdure.client.waiting import Ending, Waiting, not_found
from perdure.codec import encode_failure
from perdure.codec.payload import Codec, Payloads
from perdure.errors import EngineClosed, InvalidValue, NotReplicated, PerdureError, StaleToken
from perdure.store import ExecutionRow, Filter
from perdure.store.sqlite import Doorbell, SqliteStore
from perdure.store.sqlite.connection import Checkpoints, Synchronous
from perdure.store.sqlite.lock import RunnerLock
from perdure.store.sqlite.store import wall_clock_us
from perdure.store.sqlite.watermark import Watermark
from perdure.store.target import database_path
from perdure.types import Conflict, Durability, ExecutionInfo, HistoryEvent, Status, later, storable
from perdure.workflow import Workflow

R = TypeVar("R")
PAGE = 500
REPLICATED_S = 60.0
"""How long to wait for the replica when the runner is another process."""
WATERMARK_S = 0.02


class Gateway(Protocol):
    """The way requests take to the runner: through the file, or straight to the one in this process."""

    def start(
        self, workflow: str, data: str, id: str, conflict: Conflict, timeout_us: int | None, same: Same | None
    ) -> Awaitable[ExecutionRow]: ...

    def request(self, row: ExecutionRow, what: str, name: str | None, data: str | None) -> Awaitable[None]: ...


class Client:
    """A connection to a database that runs no workflows itself: a worker or an `Engine` elsewhere does.

        async with Client("shop.db") as client:
            execution = await client.start(fulfil, order, id="order-42")

    What it asks for is durable when the call returns, whether a runner lives or not. Raises `StoreError` when there
    is no such file, unless it is to `create` it: who runs a folder of tenants picks it up.
    """

    def __init__(
        self,
        database: str | Path,
        *,
        codec: Codec | None = None,
        max_payload_bytes: int = 16 * 1024 * 1024,
        synchronous: Synchronous = "full",
        durability: Durability | str = Durability.LOCAL,
        create: bool = False,
        now: Callable[[], int] = wall_clock_us,
    ) -> None:
        if synchronous not in ("full", "normal"):
            raise ValueError(f'synchronous is "full" or "normal", not {synchronous!r}')
        self.path = database_path(database)
        self.payloads = Payloads(codec, max_payload_bytes)
        self.synchronous: Synchronous = synchronous
        self.durability = Durability(durability)
        self.now = now
        self._creates = create
        self._store: SqliteStore | None = None
        self._gateway: Gateway | None = None
        self._waiting: Waiting | None = None
        self._doorbell: Doorbell | None = None

    # --- opening ----------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._store is not None:
            raise PerdureError(f"this {type(self).__name__.lower()} is open already")
        loop = asyncio.get_running_loop()
        self._store = self._open_store(create=self._creates)
        self._doorbell = self._make_doorbell()
        self._waiting = Waiting(loop, self._store, self._doorbell)
        self._gateway = Remote(loop, self._store, lambda: self.doorbell.ring("runner"), self.now)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gateway = None
        if self._waiting is not None:
            self._waiting.close()
        if self._doorbell is not None:
            self._doorbell.close()
        if self._store is not None:
            self._store.close()
        self._store = self._waiting = self._doorbell = None

    def _open_store(self, create: bool, checkpoints: Checkpoints = "alone") -> SqliteStore:
        return SqliteStore(
            self.path,
            synchronous=self.synchronous,
            payloads=self.payloads,
            now=self.now,
            create=create,
            checkpoints=checkpoints,
        )

    def _make_doorbell(self) -> Doorbell:
        """Make one end of the doorbell. A simulation replaces this."""
        return Doorbell(self.path)

    @property
    def store(self) -> SqliteStore:
        """The store that this client reads from."""
        return self._opened(self._store)

    @property
    def doorbell(self) -> Doorbell:
        return self._opened(self._doorbell)

    def _opened(self, part: R | None) -> R:
        if part is None:
            name = type(self).__name__
            raise EngineClosed(f"the {name.lower()} is not open", hint=f"use it inside `async with {name}(…)`")
        return part

    # --- executions -------------------------------------------------------------------------------------------------

    async def start(
        self,
        workflow: Workflow[..., Any, R],
        *args: Any,
        id: str | None = None,
        on_conflict: Conflict | str = Conflict.JOIN,
        timeout_s: float | None = None,
        durability: Durability | str | None = None,
        **kwargs: Any,
    ) -> Execution[R]:
        """Start an execution; returns once it is durable.

        `id` makes it idempotent: the same id with the same input gives the same execution. `on_conflict` is `join`,
        `reject` or `replace` (see `Conflict`). `timeout_s` limits the whole execution. With
        `durability="replicated"` this call, and those of the handle that it gives, return only once what they ask for
        or tell is in the replica. Raises `InvalidValue` for arguments that do not fit, `ExecutionExists`,
        `NotReplicated`.
        """
        if not isinstance(workflow, Workflow):
            raise TypeError(
                f"start takes a function decorated with @workflow and then its arguments, not {workflow!r}; "
                "for a workflow whose code is elsewhere there is start_by_name"
            )
        data = workflow.arguments.check(args, kwargs)
        timeout = timeout_s if timeout_s is not None else workflow.timeout_s
        chosen = workflow.id if id is None else id
        row = await self._start(workflow.name, data, chosen, on_conflict, timeout, workflow.arguments.same)
        promised = self._promised(workflow, durability)
        await self._keep(promised)
        return Execution(self, row.id, workflow, promised)

    async def start_by_name(
        self,
        workflow: str,
        arguments: dict[str, Any],
        *,
        id: str | None = None,
        on_conflict: Conflict | str = Conflict.JOIN,
        timeout_s: float | None = None,
    ) -> Execution[Any]:
        """Start a workflow whose code is not here, with its arguments by name. They are checked only where its code
        runs."""
        if not storable(workflow):
            raise InvalidValue(f"a workflow's name cannot be {workflow!r}")
        data = msgspec.json.encode(arguments).decode()
        row = await self._start(workflow, data, id, on_conflict, timeout_s, _equal_json)
        await self._keep(self.durability)
        return Execution(self, row.id, None, self.durability)

    async def _start(
        self,
        name: str,
        data: str,
        id: str | None,
        conflict: Conflict | str,
        timeout_s: float | None,
        same: Callable[[str, str], bool],
    ) -> ExecutionRow:
        self.payloads.check_size(data)
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"timeout_s must be more than 0 seconds, not {timeout_s!r}")
        if id is not None and (not isinstance(id, str) or not 0 < len(id) <= 500 or not storable(id)):  # type: ignore[redundant-expr]
            raise InvalidValue(f"an execution id is a string of 1 to 500 characters, not {id!r}")
        gateway = self._opened(self._gateway)
        timeout_us = None if timeout_s is None else later(0, timeout_s)

        def alike(row: ExecutionRow, recorded: str) -> bool:
            return row.workflow == name and same(recorded, data)

        chosen, compare = (self._new_id(), None) if id is None else (id, alike)
        return await gateway.start(name, data, chosen, Conflict(conflict), timeout_us, compare)

    def execution(self, id: str, workflow: Workflow[..., Any, R] | None = None) -> Execution[R]:
        """Give a handle by id, without looking whether it exists. With `workflow`, results are decoded by its
        annotation."""
        return Execution(self, id, workflow, self._promised(workflow, None))

    async def list(self, filter: Filter | None = None) -> list[ExecutionInfo]:
        """List executions, newest first. See `Filter` for what can be asked."""
        return await asyncio.to_thread(self.store.list, filter or Filter())

    async def describe(self, id: str, run: int | None = None) -> ExecutionInfo:
        """Describe one execution, by default its newest run. Raises `ExecutionNotFound`."""
        info = self.store.describe(id, run)
        if info is None:
            raise not_found(id, run, self.store.find(id))
        return info

    async def counts(self) -> dict[Status, int]:
        """Count executions by status."""
        return await asyncio.to_thread(self.store.counts)

    # --- completion from outside -------------------------------------------------------------------------------------

    async def complete(self, token: str, value: Any = None) -> None:
        """Complete the attempt that `token` belongs to with `value`. Raises `StaleToken`."""
        await self._finish(token, "complete", msgspec.json.encode(value).decode())

    async def fail(self, token: str, error: BaseException) -> None:
        """Fail the attempt that `token` belongs to; the workflow gets `error`.

        Raises `StaleToken`.
        """
        await self._finish(token, "fail", encode_failure(error))

    async def _finish(self, token: str, what: str, data: str) -> None:
        self.payloads.check_size(data)
        num = token.partition(".")[0]
        row = self.store.get(int(num)) if num.isdecimal() and len(num) < 19 and storable(token) else None
        if row is None:
            raise StaleToken("this completion token belongs to no execution of this database")
        await self._opened(self._gateway).request(row, what, seal(token), data)

    # --- retention --------------------------------------------------------------------------------------------------

    async def gc(
        self,
        *,
        older_than_s: float | None = None,
        keep: int | None = None,
        status: tuple[Status, ...] = (),
        batch: int = 100,
        progress: Callable[[int], None] | None = None,
        dry_run: bool = False,
    ) -> int:
        """Delete closed executions that ended more than `older_than_s` seconds ago, or all but the newest `keep`;
        give how many.

        Works in small transactions and gives the room back to the file system. Executions whose parent is open are
        kept.
        """
        if older_than_s is None and keep is None and not status:
            raise ValueError("say what to delete: older_than_s, keep or status")
        before = None if older_than_s is None else self.now() - round(older_than_s * 1e6)
        total = 0
        while True:
            limit = 1_000_000 if dry_run else batch
            found = await asyncio.to_thread(self.store.expired, status, before, keep, limit)
            if dry_run:
                return len(found)
            deleted = await asyncio.to_thread(self.store.delete, [num for num, _ in found]) if found else 0
            total += deleted
            if progress is not None and deleted:
                progress(deleted)
            if not deleted:
                break
        free, left = -1, await asyncio.to_thread(self.store.vacuum, 500)
        while total and left and left != free:  # a file that another tool made may keep its pages
            if progress is not None:
                progress(0)
            free, left = left, await asyncio.to_thread(self.store.vacuum, 500)
        return total

    # --- the replica ------------------------------------------------------------------------------------------------

    def _promised(self, workflow: Workflow[..., Any, Any] | None, asked: Durability | str | None) -> Durability:
        """Give what holds for one execution: what was asked for it, or the stronger of the client's and the
        workflow's."""
        if asked is not None:
            return Durability(asked)
        replicated = workflow is not None and workflow.durability is Durability.REPLICATED
        return Durability.REPLICATED if replicated else self.durability

    async def _keep(self, promised: Durability) -> None:
        """Return once what was promised holds for everything that is committed by now. Raises `NotReplicated`."""
        if promised is Durability.REPLICATED:
            await self._replicated()

    async def _replicated(self) -> None:
        """Wait until the runner, in another process, has said that what is committed by now is in the replica."""
        began = time.monotonic()
        watermark, lock = Watermark(self.path), RunnerLock(self.path)
        self.doorbell.ring("runner")
        while True:
            epoch = self.store.reader.meta("runner_epoch")
            if lock.holder() and watermark.covers(epoch) >= began:
                return
            if time.monotonic() - began > REPLICATED_S:
                raise NotReplicated(f"{self.path}: not in the replica after {REPLICATED_S:g} s")
            await asyncio.sleep(WATERMARK_S)

    # --- for handles ------------------------------------------------------------------------------------------------

    async def _row(self, id: str) -> ExecutionRow:
        row = self.store.find(id)
        if row is None:
            raise not_found(id)
        return row

    def _state(self, id: str) -> dict[str, str]:
        """Read the readable state from the file, whatever this process has in memory."""
        row = self.store.find(id)
        if row is None:
            raise not_found(id)
        return self.store.state(row.num)

    async def _ended(self, id: str) -> Ending:
        waiting = self._opened(self._waiting)
        return await waiting.ended(id, self._certainly_open)

    def _new_id(self) -> str:
        return new_id()

    def _certainly_open(self, id: str) -> bool:
        return False

    async def _signal(self, id: str, name: str, data: str) -> None:
        if not storable(name):
            raise InvalidValue(f"a signal's name cannot be {name!r}")
        self.payloads.check_size(data)
        await self._request(id, "signal", name, data)

    async def _request(self, id: str, what: str, name: str | None, data: str | None) -> None:
        gateway = self._opened(self._gateway)
        await gateway.request(await self._row(id), what, name, data)

    async def _events(self, id: str, run: int | None, after: int) -> Sequence[HistoryEvent]:
        events = self.store.events(id, run, after, PAGE)
        if not events and after == 0:
            raise not_found(id, run, self.store.find(id))
        return events


def new_id() -> str:
    """Make an execution id: a version 7 UUID, so that ids sort by time."""
    value = (time.time_ns() // 1_000_000) << 80 | secrets.randbits(80)
    value = value & ~(0xF << 76) | 7 << 76
    value = value & ~(0x3 << 62) | 2 << 62
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def _equal_json(recorded: str, new: str) -> bool:
    try:
        return recorded == new or bool(msgspec.json.decode(recorded) == msgspec.json.decode(new))
    except (msgspec.MsgspecError, RecursionError):  # what is recorded may be anything
        return False
