"""All tenants of a folder in one bucket: one Litestream, one set of connections and credentials, a lease for each.

<prefix>/acme/…        what a single database has below its prefix
<prefix>/beta/…
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import Callable, Collection
from pathlib import Path

from perdure.codec.payload import Payloads
from perdure.errors import PerdureError
from perdure.replication import beacon
from perdure.replication.bucket import Bucket
from perdure.replication.chores import TRANSFER_TIMEOUT_S
from perdure.replication.epochs import Epochs, EpochsDamaged
from perdure.replication.lease import Lease, lease_refused, new_holder
from perdure.replication.lease_state import LeaseHeld
from perdure.replication.refusal import BucketUnreachable
from perdure.replication.replica import Replica
from perdure.replication.shared import Share, SharedLitestream
from perdure.store.sqlite import RunnerLock
from perdure.tenants.holding import Holding
from perdure.tenants.names import valid
from perdure.tenants.opened import TenantBusy, runs_elsewhere
from perdure.tenants.place import read_note
from perdure.tenants.report import FleetStatus

logger = logging.getLogger("perdure.tenants")

READS_AT_ONCE = 16
SYNC_S = 1.0
"""How often Litestream looks at databases that come while it runs."""


class Fleet:
    """See the module. `replica.url` is the prefix of all of them."""

    def __init__(self, folder: Path, replica: Replica, lease_s: float, payloads: Payloads) -> None:
        if replica.lease is not None:
            raise ValueError("tenants have a lease each: give a replica without one")
        self.replica = replica
        self.lease_s = lease_s
        self.payloads = payloads
        self.holder = new_holder()
        self.bucket = Bucket.open(replica.target)
        self.transfers = Bucket.open(replica.target, timeout_s=TRANSFER_TIMEOUT_S)
        settings = dataclasses.replace(replica.settings, interval_s=SYNC_S)
        self.litestream = SharedLitestream(folder / ".perdure-litestream-lock", settings, replica.target.credentials())
        self._waiting: dict[str, Lease] = {}
        """Leases that others have: each remembers since when its holder is silent."""

    async def start(self) -> None:
        """Start Litestream. Raises `LitestreamMissing`, `AnotherLitestream`, and what the bucket refuses for good."""
        with contextlib.suppress(BucketUnreachable):  # it may come back
            if not await self.bucket.honours_conditions():
                raise lease_refused(self.bucket)
        await self.litestream.start()

    async def stop(self) -> None:
        await self.litestream.stop()

    async def give_up(self) -> None:
        """End Litestream at once: whoever waits for it gets no more."""
        await self.litestream.supervisor.stop(upload=False)

    async def take(self, name: str, path: Path, *, create: bool = True) -> Holding:
        """Take a tenant's lease and make its local file the newest state.

        Raises `TenantBusy` while somebody else has it, `LeaseRefused`, `TwoDatabases`, `RestoreFailed`, `BucketError`,
        and without `create` `NothingToRestore`.
        """
        if RunnerLock(path).holder():
            raise runs_elsewhere(path)
        bucket, target = self.bucket.child(name), self.replica.target.child(name)
        note = await asyncio.to_thread(read_note, path, str(target))
        lease = self._waiting.pop(name, None) or Lease(
            bucket, self.holder, ttl_s=self.lease_s, floor=Epochs(bucket).highest,
            known_dead=(note.holder,) if note is not None and note.is_of(path) else (),  # the folder's lock is ours now
        )  # fmt: skip
        try:
            await lease.acquire(0.0)
            share = Share(bucket, self.transfers.child(name), self.litestream)
            replica = dataclasses.replace(
                self.replica, url=target.url, lease=lease, share=share, interval_s=max(self.replica.interval_s, SYNC_S)
            )
            holding = Holding(path, lease, replica, bucket, note, self.payloads)
            await holding.settle(create=create)
        except LeaseHeld as error:
            await lease.release()
            self._waiting[name] = lease
            raise TenantBusy(error.message) from None
        except BaseException:
            await lease.release()
            raise
        return holding

    async def behind(self, path_of: Callable[[str], Path], skip: Collection[str]) -> list[str]:
        """Give the tenants whose newest state is in the bucket and not here: first those that have something open. One
        request for each tenant that is not in `skip`. Raises `BucketError`."""
        found = [name for name in await self.bucket.folders() if valid(name) and name not in skip]
        turn = asyncio.Semaphore(READS_AT_ONCE)

        async def rank(name: str) -> int | None:
            async with turn:
                return await self._rank(name, path_of(name))

        ranks = await asyncio.gather(*map(rank, found))
        ranked = sorted((rank, name) for rank, name in zip(ranks, found, strict=True) if rank is not None)
        return [name for _, name in ranked]

    async def _rank(self, name: str, path: Path) -> int | None:
        """Give how soon a tenant is to be fetched, 0 is first; None: not at all."""
        bucket = self.bucket.child(name)
        try:
            current = await Epochs(bucket).current()
        except EpochsDamaged:
            return None  # said when it is opened
        if current is None:
            return None  # not a tenant, or nothing of it has got there
        if await asyncio.to_thread(path.exists):
            note = await asyncio.to_thread(read_note, path, str(self.replica.target.child(name)))
            if note is None or note.is_newest(path, current.epoch):
                return None
        said = await bucket.get(beacon.KEY)
        try:
            counts = beacon.decode(said.data).counts if said is not None else {}
        except PerdureError:
            return 0
        return 0 if any(counts.get(status) for status in ("pending", "running", "waiting")) else 1

    def status(self) -> FleetStatus:
        supervisor = self.litestream.supervisor
        pid = supervisor.pid
        return FleetStatus(
            url=str(self.replica.target),
            litestream="running" if pid is not None else "away" if self.litestream.life else "starting",
            pid=pid,
            restarts=supervisor.restarts,
            problem=supervisor.problem,
        )
