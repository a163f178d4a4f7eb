"""What a runner does beside the stream: tells how it is doing, records digests, deletes old epochs, takes snapshots,
has drills run.

1. None of it delays a commit or stops the engine. What goes wrong is logged once, and is in the status until it works.
2. What is slow runs on a thread, a drill in a process of its own. Closing waits for none of it.
3. When a snapshot or a drill is due is read from the bucket, so restarts do not change it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import msgspec

from perdure.engine.replicator import ReplicationStatus
from perdure.errors import PerdureError
from perdure.replication import records
from perdure.replication.bucket import Bucket
from perdure.replication.control import Control, ControlError, Positions
from perdure.replication.drill_report import KEY, DrillReport, read_report
from perdure.replication.records import Record, Records
from perdure.replication.report import ReportFile
from perdure.replication.snapshots import Snapshots

if TYPE_CHECKING:
    from perdure.replication.stream import LitestreamStream

logger = logging.getLogger("perdure.replication")

TELL_EVERY_S = 1.0
AGAIN_S = 60.0
"""After a chore that failed."""
EXPIRE_EVERY_S = 3600.0
"""How often it is looked for old epochs, besides at the beginning."""
TRANSFER_TIMEOUT_S = 120.0
"""For one request that carries a part of a snapshot."""


class Chores:
    """See the module. Belongs to one stream, from its beginning to its end."""

    def __init__(self, stream: LitestreamStream) -> None:
        self.stream = stream
        self.replica = stream.replica
        self.file = ReportFile(stream.site.path)
        self.records = Records(stream.bucket)
        share = self.replica.share
        transfers = (
            share.transfers if share is not None else Bucket.open(self.replica.target, timeout_s=TRANSFER_TIMEOUT_S)
        )
        self.snapshots = Snapshots(transfers)
        self.problems: dict[str, str] = {}
        self.snapshot_at: datetime | None = None
        self.drilled: DrillReport | None = None
        self._recorded: Record | None = None
        self._stop = threading.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin, with the stream."""
        self.file.remove()
        work: list[tuple[str, Callable[[], Awaitable[float]]]] = [
            ("record", self._record),
            ("expiry", self._expire),
        ]
        if self.replica.snapshot_every_s is not None:
            work.append(("snapshot", self._snapshot))
        if self.replica.drill_every_s is not None:
            work.append(("drill", self._drill))
        loop = self.stream.site.loop
        self._tasks = [loop.create_task(self._repeat(name, chore), name=f"perdure-{name}") for name, chore in work]
        self._tasks.append(loop.create_task(self._tell(), name="perdure-report"))

    async def close(self) -> None:
        """Stop at once; what is half done is left."""
        self._stop.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self.file.remove()

    # --- telling ----------------------------------------------------------------------------------------------------

    def status(self) -> ReplicationStatus:
        stream, progress = self.stream, self.stream.progress
        lag, supervisor = stream.lag(), stream.supervisor
        away = supervisor is not None and supervisor.pid is None
        at = progress.replicated_at
        return ReplicationStatus(
            url=str(self.replica.target),
            epoch=stream.epoch,
            holder=stream.holder,
            lease=stream.lease.state.value if stream.lease is not None else None,
            lag_s=round(lag.seconds, 3),
            lag_commits=lag.commits,
            lag_bytes=stream.waiting_bytes() if lag.commits else 0,
            commits=progress.committed,
            replicated_at=None if at is None else datetime.fromtimestamp(at / 1e6, UTC),
            wal_bytes=stream.site.store.log_bytes(),
            litestream="starting" if supervisor is None else "away" if away else "running",
            restarts=supervisor.restarts if supervisor is not None else 0,
            problem=stream.problem,
            snapshot_at=self.snapshot_at,
            drill_at=self.drilled.ended_at if self.drilled is not None else None,
            drill_ok=self.drilled is not None and self.drilled.ok,
            chores=dict(self.problems),
        )

    async def _tell(self) -> None:
        while True:
            try:
                status = self.status()
                self.file.write(status)
            except OSError as error:
                self._failed("report", error)
            else:
                self.problems.pop("report", None)
            await asyncio.sleep(TELL_EVERY_S)

    # --- repeating --------------------------------------------------------------------------------------------------

    async def _repeat(self, name: str, chore: Callable[[], Awaitable[float]]) -> None:
        """Do a chore again and again; it gives how long to wait for the next time."""
        await self.stream.progress.arrived.wait()
        while True:
            try:
                wait_s = await chore()
            except (PerdureError, OSError, ValueError) as error:
                self._failed(name, error)
                wait_s = AGAIN_S
            else:
                self.problems.pop(name, None)
            await asyncio.sleep(wait_s)

    def _failed(self, name: str, error: Exception) -> None:
        problem = Exception.__str__(error)  # in a line, without the hint
        if self.problems.get(name) != problem:
            logger.warning("%s: no %s, the stream goes on: %s", self.stream.site.path, name, error)
        self.problems[name] = problem

    # --- the chores -------------------------------------------------------------------------------------------------

    async def _record(self) -> float:
        began = time.monotonic()
        found = await self._new_record()
        took_s = found.took_s if found is not None else 0.0
        return max(self.replica.record_every_s, records.SHARE * took_s) - (time.monotonic() - began)

    async def _new_record(self) -> Record | None:
        """Record what there is now, unless the last record says it; wait until it is in the bucket."""
        stream = self.stream
        after = self._recorded.txid if self._recorded is not None else 0

        def make() -> Record | None:
            return records.record(
                stream.site.path, self._sync,
                database_id=stream.site.database_id, epoch=stream.epoch, after=after, brief=self._brief_sync,
                stop=self._stop,
            )  # fmt: skip

        found = await asyncio.to_thread(make)
        if found is not None:
            await records.arrival(found, self._sync)
            await self.records.put(found)
            self._recorded = found
        return found

    def _sync(self) -> Positions:
        if self.stream.supervisor is None:
            raise ControlError("litestream is not running")
        return self.stream.supervisor.control.sync(self.stream.site.path)

    def _brief_sync(self) -> Positions:
        if self.stream.supervisor is None:
            raise ControlError("litestream is not running")
        return Control(self.stream.supervisor.control.path, records.HELD_S).sync(self.stream.site.path)

    async def _expire(self) -> float:
        """Delete the epochs before ours that no restore can need any more: each start of a runner makes one."""
        stream = self.stream
        await stream.progress.reached()  # now ours is the truth
        kept = timedelta(seconds=self.replica.settings.retention_s)
        for epoch in await stream.epochs.expired(datetime.now(UTC) - kept):
            stream.check()
            if epoch < stream.epoch:  # we may have been replaced
                objects = await stream.epochs.remove(epoch)
                logger.info("%s: deleted the old epoch %d, %d objects", stream.site.path, epoch, objects)
        return EXPIRE_EVERY_S

    async def _snapshot(self) -> float:
        every_s = self.replica.snapshot_every_s or 0.0
        found = await self.snapshots.all()
        if found:
            self.snapshot_at = found[-1].at
            wait_s = _until(found[-1].at, every_s)
            if wait_s > 0:
                return wait_s
        made = await self.snapshots.take(self.stream.site.path, self.stream.epoch, stop=self._stop)
        self.snapshot_at = made.at
        logger.info("%s: snapshot %s, %d bytes", self.stream.site.path, made.name, made.size_bytes)
        await self.snapshots.prune(self.replica.snapshots_keep, self.replica.snapshots_days)
        return every_s

    async def _drill(self) -> float:
        every_s = self.replica.drill_every_s or 0.0
        last = await read_report(self.stream.bucket)
        if last is not None:
            self.drilled = last
            wait_s = _until(last.ended_at, every_s)
            if wait_s > 0:
                return wait_s
        await self._new_record()
        self.drilled = report = await self._drill_apart()
        await self.stream.bucket.put(KEY, msgspec.json.format(msgspec.json.encode(report), indent=1))
        path = self.stream.site.path
        if report.ok:
            logger.info("%s: the drill found nothing wrong: %s", path, report)
        else:
            logger.error("%s: THE DRILL FAILED, a restore would not give what there is: %s", path, report)
        return every_s

    async def _drill_apart(self) -> DrillReport:
        """Run a drill as a process of its own, with less priority."""
        path = self.stream.site.path
        with tempfile.TemporaryDirectory(prefix=f".{path.name}-drill-", dir=path.parent) as folder:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "perdure", "drill", self.replica.target.url, *self.replica.drill_code,
                "--json", "--folder", folder,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                start_new_session=True,
                preexec_fn=_step_back,
            )  # fmt: skip
            try:
                out, said = await process.communicate()
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        try:
            return msgspec.json.decode(out, type=DrillReport)
        except (msgspec.DecodeError, UnicodeDecodeError):
            last = said.decode("utf-8", "replace").strip().splitlines()[-2:]
            raise PerdureError(f"the drill ended with {process.returncode}: {' '.join(last)}") from None


def _until(last: datetime, every_s: float) -> float:
    """Give the seconds until something is due that was done at `last`."""
    return (last + timedelta(seconds=every_s) - datetime.now(UTC)).total_seconds()


def _step_back() -> None:
    os.nice(10)
