"""Sees what tenants need: files that are new or changed, timers that fall due, what is idle, what is newer elsewhere.

1. A look at the folder opens no file. One that has changed is read on a thread, with a connection that is closed again.
2. Of the bucket only what other machines have run since is asked, rarely.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.errors import PerdureError, StoreError
from perdure.store.sqlite.need import Need, need
from perdure.tenants.doors import Doors
from perdure.tenants.folder import path_of, scan
from perdure.tenants.memory import trim
from perdure.tenants.opened import TenantBusy
from perdure.tenants.record import State, Tenant

if TYPE_CHECKING:
    from perdure.tenants.fleet import Fleet

logger = logging.getLogger("perdure.tenants")

SHARE = 50
"""A look at a large folder takes a while: at most a 50th of the time is spent on that, but a look every"""
MOST_S = 5.0
AHEAD_US = 500_000
"""How long before a timer is due its tenant is opened."""
AT_ONCE = 200
"""So many files are read before anything else happens."""
CLOSING_AT_ONCE = 4
"""Of those that are idle; each keeps the loop for some milliseconds."""
TRIM_AFTER = 100
"""After so many openings free memory is given back to the system, and when nothing is open."""
SEARCH_AGAIN_S = 30.0


class Watch:
    """See the module. `tenants` are those that are known, by name; `now` gives microseconds since 1970."""

    def __init__(
        self, folder: Path, tenants: dict[str, Tenant], doors: Doors, now: Callable[[], int], *, idle_s: float
    ) -> None:
        self.folder = folder
        self.tenants = tenants
        self.doors = doors
        self.now = now
        self.idle_s = idle_s
        self.looks = 0
        """How often the folder was looked at."""
        self._cost_s = 0.0
        self._strange: set[str] = set()
        self._trimmed = 0

    async def run(self, poll_s: float, after: Callable[[], None]) -> None:
        """Look at the folder again and again, and call `after` each time; open what is wanted at any time."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                await self.look()
                after()
            except OSError as error:
                logger.error("%s cannot be looked at, trying again: %s", self.folder, error)
            except Exception:
                logger.exception("%s: a fault of ours, trying again", self.folder)
            self.doors.open_next()
            deadline = loop.time() + max(poll_s, min(SHARE * self._cost_s, MOST_S))
            while loop.time() < deadline:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(deadline):
                        await self.doors.kicked.wait()
                self.doors.kicked.clear()
                self.doors.open_next()

    # --- the folder -------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Look at the folder once."""
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
        self._look_at_clock()
        self._look_for_idle(marks)
        for name in [name for name, tenant in self.tenants.items() if name not in marks and tenant.forgettable]:
            del self.tenants[name]
        self._give_back_memory()

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
                    self.doors.failed(tenant, there)
                continue
            tenant.due_at = there.due_at
            if there.runnable or there.newest_request > tenant.request or (there.blocked and not tenant.looked):
                self.doors.want(tenant)
            tenant.looked = True

    def _look_at_clock(self) -> None:
        soon = self.now() + AHEAD_US
        for tenant in self.tenants.values():
            if tenant.due_at is not None and tenant.due_at < soon and tenant.state is State.CLOSED:
                self.doors.want(tenant)

    def _look_for_idle(self, marks: dict[str, int]) -> None:
        now_s, now_us = asyncio.get_running_loop().time(), self.now()
        for tenant in list(self.doors.ajar.values()):
            opened = tenant.opened
            if opened is None or tenant.state is not State.OPEN:
                continue
            idle_s = opened.idle_s(now_s, marks.get(tenant.name, 0), now_us, self.idle_s)
            if not opened.engine.leading:
                gone = TenantBusy(f"{tenant.name} is run by somebody else now")
                self.doors.failed(tenant, opened.engine.barred or gone)
                self.doors.close(tenant)
            elif idle_s >= self.idle_s and self.doors.closing < CLOSING_AT_ONCE:
                self.doors.close(tenant)

    def _give_back_memory(self) -> None:
        """Give the system back what those had that are closed. The allocator would keep it for the next ones."""
        openings = self.doors.openings
        if openings - self._trimmed >= TRIM_AFTER or (openings != self._trimmed and not self.doors.ajar):
            self._trimmed = openings
            trim()

    # --- the bucket -------------------------------------------------------------------------------------------------

    async def search(self, fleet: Fleet, every_s: float) -> None:
        """Have fetched what other machines have run since we did: at the start, and now and then."""
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
                    self.doors.want(tenant)
            if found:
                shown = found[0] if len(found) == 1 else f"{len(found):,} tenants"
                logger.info("%s: fetching what is newer in the bucket: %s", self.folder, shown)
            await asyncio.sleep(every_s)


def _need(path: Path) -> Need | Exception:
    try:
        return need(path)
    except (StoreError, OSError, ValueError, TypeError) as error:
        return error
