"""Many databases in one process: a folder of files, each opened when there is something to do, closed when it is idle.

              its file is new or has changed, and has something to run;
              a timer falls due; this process asks for it
    closed ──────────────────────────────────────────────▶ opening ──▶ open
       ▲                                                      │          │ nothing runs, nobody uses it, nothing is
       │◀───── failed: tried again later, and reported ───────┘          │ due soon, for `idle_s`
       └──────────────────────────── closing ◀───────────────────────────┘

1. A closed tenant is a small record: no file handle, no thread, no request to the bucket.
2. What was asked for while a tenant was being closed is seen: after each closing its file is looked into again.
3. A tenant that cannot be opened disturbs no other. It is tried again, later each time, or when its file changes.
4. One process at a time looks after a folder. Within it each tenant is run under the same locks as a single file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import msgspec

from perdure.codec.payload import Codec
from perdure.engine.engine import Engine
from perdure.errors import EngineClosed
from perdure.store.sqlite.connection import Synchronous
from perdure.store.sqlite.store import wall_clock_us
from perdure.tenants.doors import Doors
from perdure.tenants.folder import folder_lock
from perdure.tenants.names import checked
from perdure.tenants.opened import TenantBusy
from perdure.tenants.record import State, Tenant
from perdure.tenants.report import FolderReport, ReportFile
from perdure.tenants.watch import Watch
from perdure.types import Durability
from perdure.workflow import Workflow

if TYPE_CHECKING:
    from perdure.replication.replica import Replica

logger = logging.getLogger("perdure.tenants")

POLL_S = 0.25
SEARCH_EVERY_S = 300.0
CLOSING_S = 5.0
"""How much longer than activities and the last upload may take closing may take."""


class EngineOptions(TypedDict, total=False):
    """What is passed on to each `Engine`."""

    codec: Codec | None
    max_payload_bytes: int
    synchronous: Synchronous
    strict: bool
    max_async: int
    max_threads: int | None
    max_processes: int | None
    hot: int
    grace_s: float
    deployment: str | None
    durability: Durability | str


class Tenants:
    """Runs the same workflows for many databases, the files `<name>.db` of a folder.

        async with Tenants("tenants", workflows=[fulfil]) as tenants:
            async with tenants.open("acme") as engine:
                execution = await engine.start(fulfil, order, id="order-42")

    Entering the block waits until no other process looks after the folder. Other processes use a tenant's file as they
    use any database; a new file is picked up. `replicate` streams each tenant to `<its url>/<name>`, by one Litestream,
    under a lease of its own. `idle_s` is how long a tenant stays open with nothing to do; `max_open` how many are open
    at once, `max_opening` how many are being opened. The other options are those of `Engine`, for each of them.
    """

    def __init__(
        self,
        folder: str | Path,
        workflows: Iterable[Workflow[..., Any, Any] | ModuleType],
        *,
        replicate: Replica | None = None,
        lease_s: float = 15.0,
        idle_s: float = 10.0,
        max_open: int = 100,
        max_opening: int = 8,
        poll_s: float = POLL_S,
        search_every_s: float = SEARCH_EVERY_S,
        now: Callable[[], int] = wall_clock_us,
        **options: Unpack[EngineOptions],
    ) -> None:
        for name, value in (("idle_s", idle_s), ("poll_s", poll_s), ("max_open", max_open), ("lease_s", lease_s)):
            if not value > 0:
                raise ValueError(f"{name} must be more than 0, not {value!r}")
        self.folder = Path(folder).resolve()
        self.workflows = list(workflows)
        self.replicate = replicate
        self.lease_s = lease_s
        self.poll_s = poll_s
        self.search_every_s = search_every_s
        self.now = now
        self.options = options
        self.tenants: dict[str, Tenant] = {}
        self.doors = Doors(self.folder, self._engine, max_open=max_open, max_opening=max_opening, lease_s=lease_s)
        self.watch = Watch(self.folder, self.tenants, self.doors, now, idle_s=idle_s)
        self._lock = folder_lock(self.folder)
        self._file = ReportFile(self.folder)
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        engine = self._engine(Path(self.folder.anchor, "any.db"), None)  # what is wrong with the options shows here
        self._payloads = engine.payloads

    def _engine(self, path: Path, replica: Replica | None) -> Engine:
        options: dict[str, Any] = dict(self.options)
        return Engine(path, self.workflows, replicate=replica or self.replicate, now=self.now, **options)

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        await self._wait_for_folder()
        try:
            if self.replicate is not None:
                from perdure.tenants.fleet import Fleet  # only who replicates needs it

                fleet = self.doors.fleet = Fleet(self.folder, self.replicate, self.lease_s, self._payloads)
                await fleet.start()
                self._begin(self.watch.search(fleet, self.search_every_s))
            await self.watch.look()
        except BaseException:
            await self.close()
            raise
        self._begin(self.watch.run(self.poll_s, self._tell))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> bool:
        """Close all tenants, in order and at once; give whether everything is in the bucket, if there is one.

        Takes no longer than activities have to end, and Litestream for its last upload.
        """
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bounded(asyncio.ensure_future(self.doors.close_all()))
        fleet, self.doors.fleet = self.doors.fleet, None
        if fleet is not None:
            await fleet.stop()
        self._file.remove()
        self._lock.release()
        async with self.doors.changed:
            self.doors.changed.notify_all()
        return self.doors.complete

    async def _wait_for_folder(self) -> None:
        told = False
        while not self._lock.acquire(msgspec.json.encode({"pid": os.getpid()}).decode()):
            if not told:
                logger.info("%s is looked after by %s; standing by", self.folder, self._lock.holder() or "a process")
                told = True
            await asyncio.sleep(self.poll_s)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work, name="perdure-tenants"))

    async def _bounded(self, closing: asyncio.Future[None]) -> None:
        """Wait for what is being closed; when that takes too long end Litestream, which it waits for then."""
        fleet = self.doors.fleet
        if fleet is not None:
            limit_s = fleet.replica.settings.final_sync_s + self.options.get("grace_s", 10.0) + CLOSING_S
            await asyncio.wait([closing], timeout=limit_s)
            if not closing.done():
                logger.error("%s: closing takes too long; the last commits may not be in the bucket", self.folder)
                await fleet.give_up()
        await closing

    # --- what is asked ----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Engine]:
        """Open a tenant, make its file if there is none, and keep it open for the length of the block.

        Raises `InvalidTenant`, and `TenantBusy` with what keeps it from being opened.
        """
        tenant = self.tenants.setdefault(checked(name), Tenant(name))
        if tenant.state is not State.OPEN:
            tenant.forgive()
        async with self.doors.changed:
            while tenant.opened is None or tenant.state is not State.OPEN:
                if self._closed:
                    raise EngineClosed("the tenants are closed", hint="use them inside `async with Tenants(…)`")
                if tenant.problem is not None:
                    raise TenantBusy(f"{name} could not be opened: {tenant.problem}")
                if tenant.state is State.CLOSED:
                    self.doors.want(tenant)
                await self.doors.changed.wait()
            opened = tenant.opened
            opened.users += 1
        try:
            yield opened.engine
        finally:
            opened.users -= 1

    def report(self) -> FolderReport:
        """Tell what is open, and what cannot be."""
        fleet = self.doors.fleet
        return FolderReport.of(self.tenants.values(), fleet.status() if fleet is not None else None)

    def _tell(self) -> None:
        try:
            self._file.write(self.report())
        except OSError as error:
            logger.warning("%s: other processes cannot be told what is open: %s", self.folder, error)
