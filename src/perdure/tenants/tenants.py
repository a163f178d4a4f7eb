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
import time
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, Self, TypedDict, Unpack

import msgspec

from perdure.codec.payload import Codec
from perdure.engine.engine import Engine
from perdure.errors import EngineClosed, PerdureError, StoreError
from perdure.store.sqlite.connection import Synchronous
from perdure.store.sqlite.need import Need, need
from perdure.store.sqlite.store import wall_clock_us
from perdure.tenants.folder import folder_lock, path_of, scan
from perdure.tenants.memory import trim
from perdure.tenants.names import checked
from perdure.tenants.opened import Opened, TenantBusy
from perdure.tenants.record import State, Tenant
from perdure.tenants.report import FolderReport, ReportFile
from perdure.types import Durability
from perdure.workflow import Workflow

if TYPE_CHECKING:
    from perdure.replication.replica import Replica
    from perdure.tenants.fleet import Fleet

logger = logging.getLogger("perdure.tenants")

POLL_S = 0.25
SHARE = 50
"""A look at a large folder takes a while: at most a 50th of the time is spent on that, up to a look every"""
MOST_S = 5.0
AHEAD_US = 500_000
"""How long before a timer is due its tenant is opened."""
SEARCH_EVERY_S = 300.0
SEARCH_AGAIN_S = 30.0
CLOSING_S = 5.0
TRIM_AFTER = 100
CLOSE = "perdure-tenant-close"
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
AT_ONCE = 200
"""So many files are looked into before anything else happens."""


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
        self.idle_s = idle_s
        self.max_open = max_open
        self.max_opening = max_opening
        self.poll_s = poll_s
        self.search_every_s = search_every_s
        self.now = now
        self.options = options
        self.tenants: dict[str, Tenant] = {}
        self.fleet: Fleet | None = None
        self.looks = 0
        """How often the folder was looked at."""
        self.openings = 0
        """How often a tenant was opened."""
        self._trimmed = 0
        self._lock = folder_lock(self.folder)
        self._file = ReportFile(self.folder)
        self._open: dict[str, Tenant] = {}
        """Those that are not closed."""
        self._queue: dict[str, Tenant] = {}
        """Those that are wanted, in the order in which they are to be opened."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._strange: set[str] = set()
        self._kicked = asyncio.Event()
        self._changed = asyncio.Condition()
        self._main: asyncio.Task[None] | None = None
        self._cost_s = 0.0
        self._closing = False
        self._complete = True
        self._engine(
            Path(self.folder.anchor, "check.db"), None
        )  # what is wrong with the options is wrong for all of them

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        told = False
        while not self._lock.acquire(msgspec.json.encode({"pid": os.getpid()}).decode()):
            if not told:
                logger.info("%s is looked after by %s; standing by", self.folder, self._lock.holder() or "a process")
                told = True
            await asyncio.sleep(self.poll_s)
        try:
            if self.replicate is not None:
                from perdure.tenants.fleet import Fleet  # only who replicates needs it

                self.fleet = Fleet(self.folder, self.replicate, self.lease_s)
                await self.fleet.start()
            await self._look()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self._main = asyncio.create_task(self._run(), name="perdure-tenants")
        if self.fleet is not None:
            self._spawn(self._search(self.fleet), "perdure-tenants-search")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> bool:
        """Close all tenants, in order and at once; give whether everything is in the bucket, if there is one.

        Takes no longer than activities have to end, and Litestream for its last upload.
        """
        self._closing = True
        for task in (self._main, *self._tasks):
            if task is not None and task.get_name() != CLOSE:
                task.cancel()
        await self._bounded(asyncio.ensure_future(self._shut()))
        if self.fleet is not None:
            await self.fleet.stop()
            self.fleet = None
        self._file.remove()
        self._lock.release()
        async with self._changed:
            self._changed.notify_all()
        return self._complete

    async def _shut(self) -> None:
        await asyncio.gather(*filter(None, (self._main, *self._tasks)), return_exceptions=True)
        await asyncio.gather(*(self._close(tenant) for tenant in list(self._open.values())))

    async def _bounded(self, closing: asyncio.Future[Any]) -> None:
        """Wait for what is being closed; when that takes too long end Litestream, which it waits for then."""
        if self.fleet is not None:
            limit_s = self.fleet.replica.settings.final_sync_s + self.options.get("grace_s", 10.0) + CLOSING_S
            await asyncio.wait([closing], timeout=limit_s)
            if not closing.done():
                logger.error("%s: closing takes too long; the last commits may not be in the bucket", self.folder)
                await self.fleet.give_up()
        await closing

    # --- what is asked ----------------------------------------------------------------------------------------------

    @contextlib.asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Engine]:
        """Open a tenant, make its file if there is none, and keep it open for the length of the block.

        Raises `InvalidTenant`, `TenantBusy`, or what keeps it from being opened.
        """
        tenant = self.tenants.setdefault(checked(name), Tenant(name))
        if tenant.state is not State.OPEN:
            tenant.failures, tenant.problem, tenant.retry_at = 0, None, 0.0
            self._want(tenant)
        async with self._changed:
            while tenant.opened is None or tenant.state is not State.OPEN:
                if self._closing:
                    raise EngineClosed("the tenants are closed", hint="use them inside `async with Tenants(…)`")
                if tenant.problem is not None:
                    raise TenantBusy(f"{name} could not be opened: {tenant.problem}")
                if tenant.state is State.CLOSED:
                    self._want(tenant)
                await self._changed.wait()
            opened = tenant.opened
            opened.users += 1
        try:
            yield opened.engine
        finally:
            opened.users -= 1

    def report(self) -> FolderReport:
        """Tell what is open, and what cannot be."""
        return FolderReport.of(self.tenants.values(), self.fleet.status() if self.fleet is not None else None)

    # --- inside: the loop -------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self._look()
                self._tell()
            except OSError as error:
                logger.error("%s cannot be looked at, trying again: %s", self.folder, error)
            except Exception:
                logger.exception("%s: a fault of ours, trying again", self.folder)
            self._open_next()
            deadline = loop.time() + min(max(self.poll_s, SHARE * self._cost_s), MOST_S)
            while loop.time() < deadline:
                self._kicked.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self._kicked.wait()
                self._open_next()

    async def _look(self) -> None:
        """Look at the folder once: what is new or changed, what is due, what is idle."""
        self.looks += 1
        began = time.perf_counter()
        marks, strange = scan(self.folder)
        self._cost_s = time.perf_counter() - began
        for file in set(strange) - self._strange:
            logger.warning("%s is not a tenant: its name has characters that are not allowed", self.folder / file)
            self._strange.add(file)
        changed = []
        for name, mark in marks.items():
            tenant = self.tenants.get(name)
            if tenant is None:
                tenant = self.tenants[name] = Tenant(name)
            if tenant.state is State.CLOSED and (mark != tenant.mark or mark == 0):
                changed.append((tenant, mark))
        for start in range(0, len(changed), AT_ONCE):
            await self._look_into(changed[start : start + AT_ONCE])
        self._look_at_clock(marks)
        for name in [name for name, tenant in self.tenants.items() if name not in marks and self._forgotten(tenant)]:
            del self.tenants[name]
        self._give_back_memory()

    def _give_back_memory(self) -> None:
        """Give the system back what those had that are closed. The allocator would keep it for the next ones."""
        if self.openings - self._trimmed >= TRIM_AFTER or (self.openings != self._trimmed and not self._open):
            self._trimmed = self.openings
            trim()

    def _forgotten(self, tenant: Tenant) -> bool:
        """Say whether a tenant without a file may be forgotten."""
        return tenant.state is State.CLOSED and not (tenant.wanted or tenant.away or tenant.problem)

    async def _look_into(self, changed: list[tuple[Tenant, int]]) -> None:
        """Read what closed files need."""
        paths = [path_of(self.folder, tenant.name) for tenant, _ in changed]
        found = await asyncio.to_thread(lambda: [_need(path) for path in paths])
        for (tenant, mark), there in zip(changed, found, strict=True):
            if tenant.state is not State.CLOSED:  # opened meanwhile
                continue
            tenant.mark = mark
            if isinstance(there, Exception):
                if tenant.problem is None:
                    self._failed(tenant, there)
                continue
            tenant.due_at = there.due_at
            tenant.retry_at = min(tenant.retry_at, asyncio.get_running_loop().time() + RETRY_S[0])
            if there.runnable or there.newest_request > tenant.request or (there.blocked and not tenant.looked):
                self._want(tenant)
            elif tenant.problem is not None and not tenant.wanted:
                self._mended(tenant)
            tenant.looked = True

    def _look_at_clock(self, marks: dict[str, int]) -> None:
        now_s, now_us = asyncio.get_running_loop().time(), self.now()
        for tenant in self.tenants.values():
            if tenant.state is State.CLOSED and tenant.due_at is not None and tenant.due_at - now_us < AHEAD_US:
                self._want(tenant)
        for tenant in list(self._open.values()):
            if tenant.state is not State.OPEN or tenant.opened is None:
                continue
            mark, engine = marks.get(tenant.name, 0), tenant.opened.engine
            if not engine.leading:
                self._failed(tenant, engine.barred or TenantBusy(f"{tenant.name} is run by somebody else now"))
                self._start_closing(tenant)
            elif tenant.opened.idle_s(now_s, mark, now_us, self.idle_s) >= self.idle_s:
                self._start_closing(tenant)

    def _tell(self) -> None:
        try:
            self._file.write(self.report())
        except OSError as error:
            logger.warning("%s: other processes cannot be told what is open: %s", self.folder, error)

    # --- inside: one tenant -----------------------------------------------------------------------------------------

    def _want(self, tenant: Tenant) -> None:
        if not tenant.wanted:
            tenant.wanted = True
            self._queue[tenant.name] = tenant
            self._kicked.set()

    def _open_next(self) -> None:
        """Begin to open what is wanted, as far as there is room."""
        now = asyncio.get_running_loop().time()
        opening = sum(tenant.state is State.OPENING for tenant in self._open.values())
        for tenant in list(self._queue.values()):
            if opening >= self.max_opening:
                return
            if tenant.retry_at > now or tenant.state is not State.CLOSED:
                continue
            if len(self._open) >= self.max_open and not self._make_room():
                return
            del self._queue[tenant.name]
            tenant.wanted = False
            tenant.state = State.OPENING
            self._open[tenant.name] = tenant
            opening += 1
            work = self._fetch_one(tenant) if tenant.away else self._open_one(tenant)
            self._spawn(work, "perdure-tenant-open")

    def _make_room(self) -> bool:
        """Close the one that has been idle for longest, sooner than it would be; give whether there is room already."""
        if any(tenant.state is State.CLOSING for tenant in self._open.values()):
            return False
        idle = [t for t in self._open.values() if t.state is State.OPEN and t.opened is not None and not t.opened.users]
        idle = [tenant for tenant in idle if tenant.opened is not None and not tenant.opened.engine.busy]
        if idle:
            self._start_closing(min(idle, key=lambda tenant: tenant.opened.quiet_since if tenant.opened else 0.0))
        return False

    def _spawn(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _open_one(self, tenant: Tenant) -> None:
        path = path_of(self.folder, tenant.name)
        try:
            if tenant.mark:  # not even a lease for a file that cannot be read
                await asyncio.to_thread(need, path)
            holding = await self.fleet.take(tenant.name, path) if self.fleet is not None else None
            try:
                opened = Opened(self._engine(path, holding.replica if holding is not None else None), holding)
                await opened.start()
            except BaseException:
                if holding is not None:
                    await holding.leave()
                raise
        except Exception as error:
            self._failed(tenant, error)
            await self._became(tenant, State.CLOSED)
        except asyncio.CancelledError:
            await self._became(tenant, State.CLOSED)
            raise
        else:
            tenant.opened = opened
            self.openings += 1
            self._mended(tenant)
            logger.debug("%s is open", tenant.name)
            await self._became(tenant, State.OPEN)

    def _engine(self, path: Path, replica: Replica | None) -> Engine:
        options: dict[str, Any] = dict(self.options)
        if self.replicate is not None and replica is None:
            replica = self.replicate
        return Engine(path, self.workflows, replicate=replica, now=self.now, **options)

    def _start_closing(self, tenant: Tenant) -> None:
        tenant.state = State.CLOSING
        self._spawn(self._close(tenant), CLOSE)

    async def _close(self, tenant: Tenant) -> None:
        opened, tenant.state = tenant.opened, State.CLOSING
        if opened is None:
            return
        tenant.opened = None
        tenant.request = max(tenant.request, opened.engine.newest_request)
        try:
            await opened.stop()
        except Exception as error:
            self._failed(tenant, error)
        self._complete &= opened.complete
        logger.debug("%s is closed", tenant.name)
        await self._became(tenant, State.CLOSED)

    async def _became(self, tenant: Tenant, state: State) -> None:
        tenant.state = state
        if state is State.CLOSED:
            tenant.mark = 0  # to be looked into again: something may have come meanwhile
            self._open.pop(tenant.name, None)
        self._kicked.set()
        async with self._changed:
            self._changed.notify_all()

    def _failed(self, tenant: Tenant, error: BaseException) -> None:
        """Report what is wrong with a tenant, and have it tried again later."""
        told = error.message if isinstance(error, PerdureError) else f"{type(error).__name__}: {error}"
        wait_s = RETRY_S[min(tenant.failures, len(RETRY_S) - 1)]
        if isinstance(error, TenantBusy):  # by another machine: one request each time
            wait_s = min(wait_s, self.lease_s if tenant.away else RETRY_S[2])
        tenant.failures += 1
        tenant.retry_at = asyncio.get_running_loop().time() + wait_s
        if told != tenant.problem:
            known = isinstance(error, PerdureError | OSError)
            level = (
                logging.ERROR if not isinstance(error, TenantBusy) else logging.DEBUG if tenant.away else logging.INFO
            )
            logger.log(level, "tenant %s: %s", tenant.name, error, exc_info=None if known else error)
        tenant.problem = told
        self._want(tenant)

    def _mended(self, tenant: Tenant) -> None:
        if tenant.problem is not None:
            logger.info("tenant %s: it works again", tenant.name)
        tenant.problem, tenant.failures, tenant.retry_at = None, 0, 0.0

    # --- inside: what is not here yet -------------------------------------------------------------------------------

    async def _search(self, fleet: Fleet) -> None:
        """Find what other machines have run since we did: at the start, and now and then."""
        told = False
        while True:
            here = {name for name, tenant in self.tenants.items() if tenant.state is not State.CLOSED or tenant.away}
            try:
                found = await fleet.behind(lambda name: path_of(self.folder, name), here)
            except PerdureError as error:
                if not told:
                    logger.error("%s: the tenants in the bucket cannot be listed, trying again: %s", self.folder, error)
                told = True
                await asyncio.sleep(SEARCH_AGAIN_S)
                continue
            told = False
            for name in found:
                tenant = self.tenants.setdefault(name, Tenant(name))
                if tenant.state is State.CLOSED:
                    tenant.away = True
                    self._want(tenant)
            if found:
                logger.info("%s: fetching what is newer in the bucket: %s", self.folder, counted(found))
            await asyncio.sleep(self.search_every_s)

    async def _fetch_one(self, tenant: Tenant) -> None:
        """Fetch a tenant that is not here. Whether there is something to do is seen when its file is looked into."""
        from perdure.replication.restore import NothingToRestore

        assert self.fleet is not None
        try:
            holding = await self.fleet.take(tenant.name, path_of(self.folder, tenant.name), create=False)
            await holding.leave()
        except NothingToRestore:
            tenant.away = False  # nothing of it has got into the bucket
        except Exception as error:
            self._failed(tenant, error)
        else:
            tenant.away = False
            self._mended(tenant)
        finally:
            await self._became(tenant, State.CLOSED)


def counted(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names):,} tenants"


def _need(path: Path) -> Need | Exception:
    try:
        return need(path)
    except (StoreError, OSError, ValueError, TypeError) as error:
        return error
