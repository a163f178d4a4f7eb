"""A tenant while it is open: its engine, who uses it, and since when nothing has happened."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.engine.engine import Engine
from perdure.errors import PerdureError
from perdure.store.sqlite import RunnerLock

if TYPE_CHECKING:
    from perdure.tenants.holding import Holding

KEPT_OPEN_S = 5.0
"""A timer that is due within so long, or within the idle time, is waited for with the engine open."""


class TenantBusy(PerdureError):
    """Somebody else runs this tenant: another process here, or another machine."""

    hint = "it is tried again; nothing has to be done if that one is to run it"


class Opened:
    """See the module. `holding` is its place in the bucket, if there is one."""

    def __init__(self, engine: Engine, holding: Holding | None) -> None:
        self.engine = engine
        self.holding = holding
        self.users = 0
        """How many of this process keep it open."""
        self.quiet_since = asyncio.get_running_loop().time()
        self._mark = 0

    async def start(self) -> None:
        """Open the engine. Raises `TenantBusy`, `StoreError`, and what the bucket says; nothing is left open then."""
        await self.engine.__aenter__()
        if not self.engine.leading:
            await self.engine.__aexit__(None, None, None)
            raise runs_elsewhere(self.engine.path)

    async def stop(self) -> None:
        """Close the engine in order, then leave the place in the bucket."""
        request = self.engine.newest_request
        try:
            await self.engine.__aexit__(None, None, None)
        finally:
            if self.holding is not None:
                await self.holding.leave(request)

    @property
    def complete(self) -> bool:
        """Whether all of it is in the bucket, once it is closed; without a bucket it is."""
        return self.holding is None or self.holding.complete

    def idle_s(self, now: float, mark: int, wall_us: int, idle_s: float) -> float:
        """Give for how long nothing has happened; 0 while something does, or is about to."""
        due_at = self.engine.next_due_at
        soon = due_at is not None and due_at - wall_us < max(idle_s, KEPT_OPEN_S) * 1e6
        if self.users or soon or mark != self._mark or mark == 0 or self.engine.busy:
            self.quiet_since, self._mark = now, mark
        return now - self.quiet_since


def runs_elsewhere(path: Path) -> TenantBusy:
    return TenantBusy(f"{path.name} is run by another process here: {RunnerLock(path).holder() or 'it has just begun'}")
