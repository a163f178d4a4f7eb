"""A small JSON beside each replica that says how its database is: for observers that look at many, with one read each.

1. Written when something that matters has changed, at most every few seconds, and now and then to say "still here".
2. Trouble with it never reaches the engine: it is logged, once per outage.
3. Readers of another version understand it: what they do not know they pass over, what is missing has a default.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import msgspec

from perdure.errors import PerdureError
from perdure.replication.bucket import Bucket

logger = logging.getLogger("perdure.replication")

KEY = "perdure.json"
AT_MOST_EVERY_S = 5.0
HEARTBEAT_S = 60.0
CLOSING_S = 2.0


class BeaconUnreadable(PerdureError):
    """What lies at `perdure.json` is not a beacon."""


class Beacon(msgspec.Struct, frozen=True, kw_only=True):
    """How a database is. Instants are UTC, by the runner's clock."""

    database_id: str
    epoch: int = 0
    holder: str | None = None
    """Who runs it; None after a clean stop."""
    heartbeat_at: datetime | None = None
    """When this was written. Longer ago than a few heartbeats, with a holder: that one is gone."""
    schema_version: int = 0
    code_version: str | None = None
    """Of perdure."""
    deployment: str | None = None
    """Of the user's code."""
    counts: dict[str, int] = {}
    """Executions by status; those that there are none of are left out."""
    last_error: str | None = None
    lag_s: float | None = None
    """How far the replica is behind."""
    lag_commits: int | None = None
    lag_bytes: int | None = None
    wal_bytes: int | None = None
    restarts: int | None = None
    """How often Litestream was started again."""
    size_bytes: int | None = None
    replicated_at: datetime | None = None
    """The instant of the newest commit that is in the replica."""

    def matters(self) -> tuple[Any, ...]:
        """Give what makes a new beacon worth writing. The rest changes all the time."""
        return (
            self.database_id, self.epoch, self.holder, self.schema_version, self.code_version, self.deployment,
            dict(self.counts), self.last_error,
        )  # fmt: skip


def encode(beacon: Beacon) -> bytes:
    """Write a beacon as JSON, on several lines."""
    return msgspec.json.format(msgspec.json.encode(beacon), indent=1)


def decode(data: bytes) -> Beacon:
    """Read a beacon of this or another version. Raises `BeaconUnreadable`."""
    try:
        return msgspec.json.decode(data, type=Beacon)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BeaconUnreadable(f"{KEY} is not a beacon: {error}", hint="write to a prefix of its own") from error


class BeaconWriter:
    """Keeps the beacon of one database up to date.

        writer = BeaconWriter(bucket, read)     # `read` gives the beacon as it is now; called at most every few seconds
        writer.start()
        writer.touch()                          # something may have changed; cheap, call it after each commit
        await writer.close()

    `read` runs on the loop. `now` gives aware UTC datetimes.
    """

    def __init__(
        self,
        bucket: Bucket,
        read: Callable[[], Beacon],
        *,
        at_most_every_s: float = AT_MOST_EVERY_S,
        heartbeat_s: float = HEARTBEAT_S,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.bucket = bucket
        self.read = read
        self.at_most_every_s = at_most_every_s
        self.heartbeat_s = max(heartbeat_s, at_most_every_s)
        self.problem: str | None = None
        """Why it could not be written last, in a line; None when it could."""
        self._now = now
        self._touched = asyncio.Event()
        self._written: tuple[Any, ...] | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Write the first one, and go on."""
        self._task = asyncio.create_task(self._run(), name="perdure-beacon")

    def touch(self) -> None:
        """Say that something may have changed."""
        self._touched.set()

    async def close(self, *, holder: str | None = None) -> None:
        """Stop, after a last one that says who runs it now: nobody. Takes 2 s at most, and never raises."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        try:
            async with asyncio.timeout(CLOSING_S):
                await self._write(msgspec.structs.replace(self.read(), holder=holder))
        except Exception as error:
            self._fault(error)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        heartbeat_at = loop.time()
        while True:
            self._touched.clear()
            try:
                beacon = self.read()
                if loop.time() >= heartbeat_at or beacon.matters() != self._written:
                    heartbeat_at = loop.time() + self.heartbeat_s
                    await self._write(beacon)
            except Exception as error:
                self._fault(error)
            await asyncio.sleep(self.at_most_every_s)
            if self.problem is None:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(heartbeat_at):
                        await self._touched.wait()

    async def _write(self, beacon: Beacon) -> None:
        await self.bucket.put(KEY, encode(msgspec.structs.replace(beacon, heartbeat_at=self._now())))
        self._written = beacon.matters()
        if self.problem is not None:
            logger.info("%s: the beacon is written again", self.bucket.name)
            self.problem = None

    def _fault(self, error: Exception) -> None:
        self._written = None  # it may or may not be there: write it again
        if self.problem is None:  # once per outage
            logger.warning("%s: the beacon could not be written: %s", self.bucket.name, error)
        self.problem = f"{type(error).__name__}: {error}"
