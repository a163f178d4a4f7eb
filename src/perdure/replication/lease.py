"""Who may run a database: one small object in the bucket, changed by compare-and-swap.

              nobody has it: at once                   renewed every ttl/3
    idle ──▶ waiting ────────────────────────▶ held ◀─────────────────────┐
    released   │ its holder was silent for      │ not renewed for         │
               │ a whole ttl ───────────────────┘ ttl − margin: doubtful ─┘ nobody took it meanwhile
               │                                               │ another one took it, or the object is gone
    released ◀─┴─ release(), in any state but lost             ▼
                                                              lost

1. **Never two at once.** The holder counts from when it *sent* its last successful renewal, and stops a margin before
   the ttl. Another one counts a whole ttl from when it first *saw* that renewal, which is later. Each uses its own
   clock, which no one sets and which goes on while a machine is suspended; instants of others are for people.
2. `epoch` grows by at least 1 with each new holder. It names the holder's own path in the bucket, so that a runner that
   was stopped between `valid()` and a write, or whose machine was paused as a whole with its clocks, spoils nothing.
3. While the bucket cannot be reached the lease is doubtful, not lost: if nobody took it, it goes on with its epoch.

`valid`, `check`, `remaining_s`, `state` and `epoch` may be asked from any thread. The rest belongs to one loop, which
must not be blocked for long: run it on a loop of its own where user code might.
"""

from __future__ import annotations

import asyncio
import logging
import os
import platform
import secrets
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from typing import Self

import msgspec

from perdure.errors import PerdureError
from perdure.replication.bucket import Bucket
from perdure.replication.lease_object import LeaseObject, LeaseRecord, LeaseRefused, Version
from perdure.replication.lease_state import LeaseHeld, LeaseLost, LeaseState
from perdure.replication.refusal import BucketConflict, BucketUnreachable
from perdure.replication.rival import Rival
from perdure.replication.uptime import uptime_s

logger = logging.getLogger("perdure.replication")

TTL_S = 15.0
MARGIN = 0.2
"""The part of the ttl by which a holder stops early: for clocks that run at different speeds, and for a commit that was
begun just before."""
LOOK_EVERY_S = 1.0


def new_holder() -> str:
    """Make a name for this process that no other has: host, process id and a random part."""
    return f"{platform.node() or 'host'}:{os.getpid()}:{secrets.token_hex(4)}"


class Lease:
    """The right to run the database below `bucket`; see the module for what is promised.

        lease = Lease(bucket, new_holder(), floor=epochs.highest)
        epoch = await lease.acquire()       # and is renewed from now on
        ... if lease.valid(): commit ...
        await lease.release()               # once nothing is written any more: the next one starts at once

    `floor` gives an epoch that was used before, whatever the lease object says: the next is higher. `known_dead` names
    holders that certainly run no more, so their leases are taken without waiting. `on_state` is called on the loop
    with each change of state; `lost` is set when the lease is lost for good.
    """

    def __init__(
        self,
        bucket: Bucket,
        holder: str,
        *,
        ttl_s: float = TTL_S,
        floor: Callable[[], Awaitable[int]] | None = None,
        known_dead: Collection[str] = (),
        on_state: Callable[[LeaseState], None] | None = None,
        clock: Callable[[], float] = uptime_s,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        nonce: Callable[[], str] = lambda: secrets.token_hex(8),
    ) -> None:
        if not ttl_s > 0:
            raise ValueError(f"ttl_s must be more than 0 seconds, not {ttl_s!r}")
        self.bucket = bucket
        self.holder = holder
        self.ttl_s = ttl_s
        self.floor = floor
        self.on_state = on_state
        self.state = LeaseState.IDLE
        self.epoch = 0
        self.lost = asyncio.Event()
        self.problem: str | None = None
        """What keeps it from being renewed, or why it was lost, in a line; None when nothing does."""
        self._clock, self._now = clock, now
        self._object = LeaseObject(bucket, clock, nonce)
        self._rival = Rival(bucket.name, known_dead)
        self._valid_until = float("-inf")
        self._renewed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    # --- asked by whoever writes ------------------------------------------------------------------------------------

    def remaining_s(self) -> float:
        """Give for how long it is certain that nobody else has the lease; 0 or less: it is not."""
        return self._valid_until - self._clock()

    def valid(self) -> bool:
        """Say whether it is certain, right now, that nobody else has the lease."""
        return self.remaining_s() > 0

    def check(self) -> None:
        """Raise `LeaseLost` unless it is valid."""
        if self.valid():
            return
        if self.state is LeaseState.LOST:
            raise LeaseLost(f"{self.bucket.name}: {self.problem}", hint="this process runs the database no more")
        reason = f"the lease could not be renewed in time ({self.problem or 'this process was paused'})"
        raise LeaseLost(f"{self.bucket.name}: {reason}", hint="it goes on by itself if nobody takes over meanwhile")

    # --- acquire and release ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        try:
            await self.acquire()
        except BaseException:
            await self.release()
            raise
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.release()

    async def acquire(self, patience_s: float | None = None) -> int:
        """Wait for the lease, take it, and renew it from now on; give its epoch.

        Waits `patience_s`, or for ever; an unreachable bucket is waited for as well. Raises `LeaseHeld`,
        `LeaseRefused`, `BucketError`. After an error or a cancellation call `release`: the lease may have been taken.
        """
        if self._tasks:
            raise RuntimeError("this lease is acquired already")
        deadline = self._clock() + (float("inf") if patience_s is None else patience_s)
        self._object.forget()
        self.lost.clear()
        self._to(LeaseState.WAITING)
        while not await self._try_to_take(deadline):
            if self._clock() > deadline:
                raise LeaseHeld(self._rival.told(self._clock()))
            await asyncio.sleep(min(self.ttl_s / 10, LOOK_EVERY_S))
        self.problem = None
        self._tasks = [
            asyncio.create_task(self._keep(), name="perdure-lease"),
            asyncio.create_task(self._watch(), name="perdure-lease-watch"),
        ]
        return self.epoch

    async def release(self, timeout_s: float = 5.0) -> None:
        """Stop renewing, and let the next one in at once. Call it when nothing is written any more. Never raises: what
        goes wrong costs the next one its wait, and is logged."""
        self._valid_until = float("-inf")
        tasks, self._tasks = self._tasks, []
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self.state is LeaseState.LOST:
            return
        try:
            async with asyncio.timeout(timeout_s):
                while not self._object.untouched and not await self._give_back():
                    pass
        except (PerdureError, TimeoutError) as error:
            logger.warning("%s: could not release the lease; it ends in %g s: %s", self.bucket.name, self.ttl_s, error)
        self._object.forget()
        self._to(LeaseState.RELEASED)

    async def _give_back(self) -> bool:
        """Write that it is free if it is ours; false when a write of ours that was still on its way came in between."""
        found = await self._object.read()
        if found is None or found.sent_at is None or found.record.released:
            return True
        try:
            await self._write(found, released=True)
        except BucketConflict:
            return False
        return True

    # --- taking it --------------------------------------------------------------------------------------------------

    async def _try_to_take(self, deadline: float) -> bool:
        """Look at the object once, and take it if it is free; give whether it is ours and valid."""
        try:
            if not await self.bucket.honours_conditions():
                raise lease_refused(self.bucket)
            found = await self._object.read()
            if found is not None and found.sent_at is not None and not found.record.released:
                self._count(found)  # of a write whose answer was lost
                return await self._renew() is None and self.valid()
            return await self._take_if_free(found)
        except BucketUnreachable as error:
            self._fault(str(error))
            if self._clock() > deadline:
                raise
            return False

    async def _take_if_free(self, found: Version | None) -> bool:
        seen_at = self._clock()  # after the answer: what is in it was written before
        if not self._rival.look(None if found is None else found.record, seen_at):
            return False
        last_epoch, etag = (0, None) if found is None else (found.record.epoch, found.etag)
        epoch = max(last_epoch, await self.floor() if self.floor is not None else 0) + 1
        now = self._now()
        record = LeaseRecord(self.holder, epoch, self.ttl_s, "", now, now)
        try:
            self._count(await self._object.write(record, etag, timeout_s=self.ttl_s / 4))
        except BucketConflict:
            return False
        return self.valid()

    # --- keeping it -------------------------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Renew for as long as it is ours."""
        wait_s = self.ttl_s / 3
        while not self.lost.is_set():
            await asyncio.sleep(wait_s)
            try:
                gone = await self._renew()
            except Exception as error:  # a fault of ours too: the lease runs out, and says so
                self._fault(str(error))
                wait_s = self.ttl_s / 15
                continue
            if gone is not None:
                self._lose(gone)
            elif self.problem is not None and self.valid():
                logger.info("%s: the lease is renewed again", self.bucket.name)
                self.problem = None
            # From when the newest was sent: an older one of ours may be what was found.
            wait_s = max(self.remaining_s() - self.ttl_s * (1 - MARGIN - 1 / 3), self.ttl_s / 30)

    async def _watch(self) -> None:
        """Say so at the moment from which it is not certain any more."""
        while not self.lost.is_set():
            remaining_s = self.remaining_s()
            if remaining_s > 0:
                await asyncio.sleep(remaining_s)
                continue
            logger.warning("%s: the lease is doubtful: %s", self.bucket.name, self.problem or "it was not renewed")
            self._to(LeaseState.DOUBTFUL)
            self._renewed.clear()
            await self._renewed.wait()

    async def _renew(self) -> str | None:
        """Write the object anew if it is still ours; give why it is not any more. Raises `BucketError`."""
        ours = self._object.ours
        if ours is None:
            return "it was released"
        try:
            self._count(await self._write(ours))
        except BucketConflict:
            return await self._reconcile()
        return None

    async def _reconcile(self) -> str | None:
        """Find out why a renewal was refused: an earlier one of ours got there after all, or it is ours no more."""
        try:
            found = await self._object.read(timeout_s=self.ttl_s / 4)
        except LeaseRefused as error:
            return str(error)
        if found is None:
            return "somebody deleted the lease"
        if found.sent_at is None:
            return f"{found.record.holder} runs the database now, with epoch {found.record.epoch}"
        self._count(found)
        return None

    async def _write(self, ours: Version, *, released: bool = False) -> Version:
        record = msgspec.structs.replace(ours.record, renewed_at=self._now(), released=released)
        return await self._object.write(record, ours.etag, timeout_s=self.ttl_s / 4)

    def _count(self, ours: Version) -> None:
        """Count from when this version of ours was sent."""
        assert ours.sent_at is not None, "only what we sent counts"
        self.epoch = ours.record.epoch
        self._valid_until = ours.sent_at + ours.record.ttl_s * (1 - MARGIN)
        if self.valid():
            self._renewed.set()
            self._to(LeaseState.HELD)

    def _lose(self, reason: str) -> None:
        self._valid_until = float("-inf")
        self.problem = reason
        logger.error("%s: lost the lease (epoch %d): %s", self.bucket.name, self.epoch, reason)
        self._to(LeaseState.LOST)
        self.lost.set()
        self._renewed.set()

    def _fault(self, problem: str) -> None:
        if self.problem is None:  # once per outage
            logger.warning("%s: the lease cannot be reached, trying again: %s", self.bucket.name, problem)
        self.problem = problem

    def _to(self, state: LeaseState) -> None:
        if state is self.state:
            return
        self.state = state
        if self.on_state is not None:
            try:
                self.on_state(state)
            except Exception:
                logger.exception("on_state failed")


def lease_refused(bucket: Bucket) -> LeaseRefused:
    """Give the error for a store that ignores conditional writes."""
    return LeaseRefused(f"{bucket.name}: this store ignores conditional writes: {_NEED}", hint=_INSTEAD)


_NEED = "without them nobody can know who has a lease"
_INSTEAD = "use a store that has them (AWS S3, R2, MinIO, Ceph), or replicate without a lease, from one machine only"
