"""The doors of a folder's tenants: which is to be opened next, opening and closing, and what goes wrong with that.

1. At most `max_open` are not closed, at most `max_opening` are being opened. Who comes first is opened first.
2. A tenant that cannot be opened is tried again, later each time. Nobody else waits for it.
3. After each closing the file has to be looked into again: something may have come meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.engine.engine import Engine
from perdure.errors import PerdureError, StoreError
from perdure.store.sqlite.need import need
from perdure.tenants.folder import path_of
from perdure.tenants.opened import Opened, TenantBusy
from perdure.tenants.record import State, Tenant

if TYPE_CHECKING:
    from perdure.replication.replica import Replica
    from perdure.tenants.fleet import Fleet

logger = logging.getLogger("perdure.tenants")

CLOSING_AT_ONCE = 16
RETRY_S = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
RETRY_FILE_S = 10.0
"""The longest wait for a file: to look at it costs nothing."""
RETRY_BUSY_S = 5.0
"""The longest wait for a tenant that somebody else has: a request each time, if that is another machine."""


class Doors:
    """See the module. `make` makes the engine of a file; `lease_s` is how often to ask for what only waits to be
    fetched."""

    def __init__(
        self,
        folder: Path,
        make: Callable[[Path, Replica | None], Engine],
        *,
        max_open: int,
        max_opening: int,
        lease_s: float,
    ) -> None:
        self.folder = folder
        self.make = make
        self.max_open = max_open
        self.max_opening = max_opening
        self.lease_s = lease_s
        self.fleet: Fleet | None = None
        self.ajar: dict[str, Tenant] = {}
        """Those that are not closed."""
        self.openings = 0
        """How often a tenant was opened."""
        self.complete = True
        """Whether all that was closed is in the bucket, if there is one."""
        self.changed = asyncio.Condition()
        """Notified when one has been opened or closed, or could not be."""
        self.kicked = asyncio.Event()
        """Set when `open_next` may have something to do."""
        self._queue: dict[str, Tenant] = {}
        """Those that are wanted, in the order in which they are to be opened."""
        self._opening: set[asyncio.Task[None]] = set()
        self._closing: set[asyncio.Task[None]] = set()
        self._turn = asyncio.Semaphore(CLOSING_AT_ONCE)

    # --- what is to be opened ---------------------------------------------------------------------------------------

    def want(self, tenant: Tenant) -> None:
        """Have a tenant opened when there is room, and it is time."""
        if not tenant.wanted:
            tenant.wanted = True
            self._queue[tenant.name] = tenant
            self.kicked.set()

    def open_next(self) -> None:
        """Begin to open what is wanted, as far as there is room."""
        now = asyncio.get_running_loop().time()
        for tenant in list(self._queue.values()):
            if len(self._opening) >= self.max_opening:
                return
            if tenant.retry_at > now or tenant.state is not State.CLOSED:
                continue
            if len(self.ajar) >= self.max_open:
                self._make_room()
                return
            del self._queue[tenant.name]
            tenant.wanted = False
            tenant.state = State.OPENING
            self.ajar[tenant.name] = tenant
            _spawn(self._opening, self._fetch(tenant) if tenant.away else self._open(tenant))

    def _make_room(self) -> None:
        """Close those that have been idle for longest, sooner than they would be: as many as could be opened then."""
        wanted = min(len(self._queue), self.max_opening) - len(self._closing)
        opened = [(tenant.opened, tenant) for tenant in self.ajar.values() if tenant.opened is not None]
        idle = [(one.quiet_since, tenant) for one, tenant in opened if not one.users and not one.engine.busy]
        for _, tenant in sorted(idle, key=lambda item: item[0])[: max(wanted, 0)]:
            self.close(tenant)

    # --- opening ----------------------------------------------------------------------------------------------------

    async def _open(self, tenant: Tenant) -> None:
        path, state = path_of(self.folder, tenant.name), State.CLOSED
        try:
            if tenant.mark:  # not even a lease for a file that cannot be read
                await asyncio.to_thread(need, path)
            tenant.opened = await self._opened(tenant.name, path)
            state = State.OPEN
            self.openings += 1
            self._mended(tenant)
            logger.debug("%s is open", tenant.name)
        except Exception as error:
            self.failed(tenant, error)
        finally:
            await self._became(tenant, state)

    async def _opened(self, name: str, path: Path) -> Opened:
        holding = await self.fleet.take(name, path) if self.fleet is not None else None
        try:
            opened = Opened(self.make(path, holding.replica if holding is not None else None), holding)
            await opened.start()
        except BaseException:
            if holding is not None:
                await holding.leave()
            raise
        return opened

    async def _fetch(self, tenant: Tenant) -> None:
        """Fetch a tenant's newest state. Whether there is something to do is seen when its file is looked into."""
        from perdure.replication.restore import NothingToRestore  # only who replicates needs it

        assert self.fleet is not None, "only a bucket has what is not here"
        try:
            with contextlib.suppress(NothingToRestore):  # nothing of it has got into the bucket
                holding = await self.fleet.take(tenant.name, path_of(self.folder, tenant.name), create=False)
                await holding.leave()
            tenant.away, tenant.request = False, 0
            self._mended(tenant)
        except Exception as error:
            self.failed(tenant, error)
        finally:
            await self._became(tenant, State.CLOSED)

    # --- closing ----------------------------------------------------------------------------------------------------

    def close(self, tenant: Tenant) -> None:
        """Begin to close a tenant that is open."""
        tenant.state = State.CLOSING
        _spawn(self._closing, self._close(tenant))

    @property
    def closing(self) -> int:
        """How many are being closed."""
        return len(self._closing)

    async def close_all(self) -> None:
        """Open nothing more, and close all, at once."""
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, *self._closing, return_exceptions=True)
        for tenant in list(self.ajar.values()):
            self.close(tenant)
        await asyncio.gather(*self._closing)

    async def _close(self, tenant: Tenant) -> None:
        opened, tenant.opened = tenant.opened, None
        try:
            if opened is not None:
                tenant.request = max(tenant.request, opened.engine.newest_request)
                async with self._turn:
                    await opened.stop()
                self.complete &= opened.complete
        except Exception as error:
            self.complete = False
            self.failed(tenant, error)
        finally:
            tenant.mark = 0
            logger.debug("%s is closed", tenant.name)
            await self._became(tenant, State.CLOSED)

    async def _became(self, tenant: Tenant, state: State) -> None:
        tenant.state = state
        if state is State.CLOSED:
            self.ajar.pop(tenant.name, None)
        self.kicked.set()
        async with self.changed:
            self.changed.notify_all()

    # --- trouble ----------------------------------------------------------------------------------------------------

    def failed(self, tenant: Tenant, error: BaseException) -> None:
        """Report what is wrong with a tenant, and have it tried again later."""
        told = error.message if isinstance(error, PerdureError) else f"{type(error).__name__}: {error}"
        wait_s = RETRY_S[min(tenant.failures, len(RETRY_S) - 1)]
        level = logging.ERROR
        if isinstance(error, TenantBusy):
            wait_s = min(wait_s, self.lease_s if tenant.away else RETRY_BUSY_S)
            level = logging.DEBUG if tenant.away else logging.INFO
        elif isinstance(error, StoreError):
            wait_s = min(wait_s, RETRY_FILE_S)
        tenant.failures += 1
        tenant.retry_at = asyncio.get_running_loop().time() + wait_s
        if told != tenant.problem:
            ours = not isinstance(error, PerdureError | OSError)
            logger.log(level, "tenant %s: %s", tenant.name, error, exc_info=error if ours else None)
        tenant.problem = told
        self.want(tenant)

    def _mended(self, tenant: Tenant) -> None:
        if tenant.problem is not None:
            logger.info("tenant %s: it works again", tenant.name)
        tenant.forgive()


def _spawn(tasks: set[asyncio.Task[None]], work: Coroutine[Any, Any, None]) -> None:
    task = asyncio.create_task(work, name="perdure-tenant")
    tasks.add(task)
    task.add_done_callback(tasks.discard)
