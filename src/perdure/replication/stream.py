"""One database on its way into the bucket: Litestream, what it has done, and what is told of it.

1. Nothing here delays or fails a commit. Trouble with Litestream or the bucket is seen in `lag()` and `problem`. Only a
   lease that may be another's stops the engine.
2. Each runner streams to a path of its own, `<prefix>/<epoch>/`: one that was replaced and writes on spoils nothing.
   The path becomes the truth when all of the database is there.
3. While Litestream is away we keep the log in bounds ourselves: it begins anew with a full snapshot anyway.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import logging
import os
import platform
import threading
from typing import TYPE_CHECKING

import perdure
from perdure.engine.replicator import Arrived, ReplicationStatus, Site
from perdure.errors import NotReplicated, PerdureError, StaleRunner, StoreError
from perdure.replication.beacon import Beacon, BeaconWriter
from perdure.replication.bucket import Bucket
from perdure.replication.chores import Chores
from perdure.replication.control import ControlError, Positions
from perdure.replication.epochs import Epochs
from perdure.replication.litestream import Source
from perdure.replication.lookout import Lookout
from perdure.replication.progress import Lag, Progress
from perdure.replication.shared import Seat
from perdure.replication.supervisor import Supervisor
from perdure.replication.waiting import Waiting
from perdure.store.sqlite import remnant
from perdure.store.sqlite.schema import migrations
from perdure.store.sqlite.watermark import Watermark

if TYPE_CHECKING:
    from perdure.replication.replica import Replica

logger = logging.getLogger("perdure.replication")

LOOK_EVERY_S = 1.0


class LitestreamStream:
    """See the module; implements `engine.replicator.Stream`."""

    def __init__(self, replica: Replica, site: Site) -> None:
        self.replica = replica
        self.site = site
        self.lease = replica.lease
        self.bucket = replica.share.bucket if replica.share is not None else Bucket.open(replica.target)
        self.epochs = Epochs(self.bucket)
        self.epoch = 0
        """Where it streams to; 0 while that is not known."""
        self.holder = self.lease.holder if self.lease is not None else f"{platform.node()}:{os.getpid()}"
        self.supervisor: Supervisor | Seat | None = None
        self.progress = Progress(site.loop, self._sync, site.now, interval_s=max(replica.interval_s, 0.1))
        self.progress.on_reached = self._tell
        self.watermark = Watermark(site.path)
        remnant.take_note(site.path)
        self._stale = False
        """Whether what Litestream says does not count until it is started anew: see `remnant.py`."""
        self.beacon = BeaconWriter(self.bucket, self._beacon)
        self._trouble: str | None = "it is just starting"
        self._held: dict[int, tuple[asyncio.TimerHandle, Arrived]] = {}
        self._keys = 0
        self._loop_thread = threading.get_ident()
        self.waiting = Waiting(site.path.with_name(f".{site.path.name}-litestream"))
        self._announced = False
        self.lookout = Lookout(self)
        self.complete = True
        """Whether everything that is committed is in the bucket; known once it is closed."""
        self.chores = Chores(self)
        self.chores.start()
        self._tell()  # at once: others look for remnants while it is there
        self._task = site.loop.create_task(self._run(), name="perdure-replication")

    # --- what the engine asks ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """Refuse to go on without the lease: for good once another has it, for now while that is in doubt."""
        if self.lease is None or self.lease.valid():
            return
        if self.lease.lost.is_set():
            self.lease.check()
        raise StoreError(
            f"{self.bucket.name}: the lease is in doubt: {self.lease.problem or 'this process was paused'}"
        )

    def committed(self) -> int:
        if threading.get_ident() == self._loop_thread:
            self.beacon.touch()
        else:  # the watchdog, while user code blocks the loop
            self.site.loop.call_soon_threadsafe(self.beacon.touch)
        return self.progress.commit()

    def look(self) -> None:
        self.progress.look()

    def when_replicated(self, commit: int, call: Arrived) -> None:
        self._keys += 1
        key = self._keys
        late = self.site.loop.call_later(self.replica.wait_s, self._late, key)
        self._held[key] = (late, call)
        self.progress.when_replicated(commit, lambda: self._answer(key, True))

    async def reached(self) -> None:
        done: asyncio.Future[bool] = self.site.loop.create_future()

        def call(arrived: bool) -> None:
            if not done.done():
                done.set_result(arrived)

        self.when_replicated(self.progress.committed, call)
        if not await done:
            raise NotReplicated(
                f"{self.site.path}: committed here, and not in the replica after {self.replica.wait_s:g} s"
            )

    def let_go(self) -> None:
        for key in list(self._held):
            self._answer(key, False)

    async def close(self) -> None:
        """Upload what is left, as long as that takes not too long."""
        await self.chores.close()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.complete = await self._stop()
        if not self.complete:
            logger.error("%s: the last commits did not get into the replica in time", self.site.path)
        await self.beacon.close()
        self.progress.close()
        self.watermark.remove()

    # --- what people ask --------------------------------------------------------------------------------------------

    def status(self) -> ReplicationStatus:
        return self.chores.status()

    def lag(self) -> Lag:
        return self.progress.lag()

    def waiting_bytes(self) -> int:
        """Add up what waits to be uploaded; what Litestream has not looked at yet is in the log only."""
        return self.waiting.bytes(self.progress.positions.replicated_txid) or self.site.store.log_bytes()

    @property
    def problem(self) -> str | None:
        """What keeps commits from getting there, in a line; None when nothing does."""
        return self._trouble or (self.supervisor and self.supervisor.problem) or self.progress.problem

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _stop(self) -> bool:
        """Stop Litestream after its last upload; give whether everything is in the bucket, where it is looked for."""
        lost = self.lease is not None and self.lease.lost.is_set()
        self.progress.ending = True
        try:
            async with asyncio.timeout(self.replica.settings.final_sync_s):
                if self.supervisor is None and not lost:
                    await self._begin()
        except (PerdureError, TimeoutError) as error:
            logger.error("%s: %s", self.site.path, error)
        if not lost:
            await self._catch_up()
        self.progress.ending = True
        clean = self.supervisor is not None and await self.supervisor.stop(upload=not lost)  # lost: nobody will look
        clean = clean and not self.look_for_remnant()
        if clean and not self._announced:
            try:
                await self._announce()
            except PerdureError as error:
                logger.error("%s: %s", self.site.path, error)
        return self._announced and (clean or self.progress.replicated >= self.progress.committed)

    async def _catch_up(self) -> None:
        """Have Litestream begin anew, if it has to, before it uploads for the last time."""
        if self.supervisor is None or not self.look_for_remnant():
            return
        self.supervisor.nudge()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.replica.settings.final_sync_s):
                while self._stale:
                    await asyncio.sleep(0.05)

    def look_for_remnant(self) -> bool:
        """Say whether Litestream has to be started anew since somebody wrote over a commit that never became true."""
        self._stale = remnant.take_note(self.site.path) or self._stale
        return self._stale

    def _restarted(self) -> None:
        self._stale = False
        self.progress.restarted()

    async def _announce(self) -> None:
        """Make what is at the path the truth."""
        await self.epochs.advance(self.epoch, database_id=self.site.database_id, holder=self.holder)
        self._announced = True
        self.progress.trust()

    async def _run(self) -> None:
        """Find the path, start Litestream, then look now and then how it does."""
        while True:
            try:
                if self.supervisor is None:
                    await self._begin()
                await self._watch()
                self._trouble = None
            except StaleRunner as error:
                self.site.stop(error)
                return
            except PerdureError as error:
                if error.message != self._trouble:
                    logger.error("%s: replication has trouble, local work goes on: %s", self.site.path, error)
                self._trouble = error.message
            await self._pause()

    async def _pause(self) -> None:
        """Wait until it is time to look again; at the beginning, until all of the database is at its path."""
        if self._announced or self.progress.arrived.is_set():
            await asyncio.sleep(LOOK_EVERY_S)
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await self.progress.arrived.wait()

    async def _begin(self) -> None:
        if not self.epoch:
            self.epoch = self.lease.epoch if self.lease is not None else await self.epochs.highest() + 1
        supervisor = self._make_supervisor()
        supervisor.on_ready = self._restarted
        await supervisor.start()
        self.supervisor = supervisor
        self.beacon.start()
        logger.info("%s: streaming to %s", self.site.path, self.replica.target.child(self.epoch))

    def _make_supervisor(self) -> Supervisor | Seat:
        path, replica, checkpoint = self.site.path, self.replica, self.site.store.checkpoint
        target = replica.target.child(self.epoch)
        if replica.share is not None:
            return replica.share.litestream.seat(path, target, checkpoint)
        return Supervisor(
            [Source(path, path.with_name(f".{path.name}-litestream"), target.litestream())],
            path.with_name(f"{path.name}-litestream-lock"),
            checkpoint,
            dataclasses.replace(replica.settings, interval_s=replica.interval_s),
            replica.target.credentials(),
        )

    async def _watch(self) -> None:
        if self.lease is not None and self.lease.lost.is_set():
            self.lease.check()
        if not self._announced and self.progress.arrived.is_set():
            await self._announce()
        await self.lookout.look()

    def _sync(self) -> Positions:
        if self.supervisor is None:
            raise ControlError("litestream is not running yet")
        if self._stale or remnant.note(self.site.path).exists():
            raise ControlError("litestream has to begin anew: a process was killed in the middle of a commit")
        return self.supervisor.control.sync(self.site.path)

    def _tell(self) -> None:
        try:
            self.watermark.write(self.site.epoch, self.progress.covers)
        except OSError as error:
            logger.warning("other processes cannot be told what is in the replica: %s", error)

    def _beacon(self) -> Beacon:
        if self.lease is not None:
            self.lease.check()  # the beacon is that of whoever runs it now
        status, store = self.status(), self.site.store
        return Beacon(
            database_id=self.site.database_id,
            epoch=self.epoch,
            holder=self.holder,
            deployment=self.site.deployment,
            counts={status.value: count for status, count in store.counts().items()},
            last_error=self.problem,
            lag_s=status.lag_s,
            lag_commits=status.lag_commits,
            lag_bytes=status.lag_bytes,
            wal_bytes=status.wal_bytes,
            restarts=status.restarts,
            size_bytes=self.site.path.stat().st_size,
            replicated_at=status.replicated_at,
            code_version=perdure.__version__,
            schema_version=len(migrations()),
        )

    def _late(self, key: int) -> None:
        if self.replica.late == "go_on":
            logger.error("%s: went on after %g s without the replica", self.site.path, self.replica.wait_s)
        self._answer(key, self.replica.late == "go_on")

    def _answer(self, key: int, arrived: bool) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held[0].cancel()
            held[1](arrived)
