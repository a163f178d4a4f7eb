"""What a database held at a commit that is in the bucket, for a drill to compare a restored copy with.

A replica can be whole and old: pages that were never uploaded leave a file that passes every check of itself. So the
runner says, beside the replica, what a restore has to give:

    <prefix>/records/00000007-000000000000002a.json      epoch 7, Litestream's transaction 42: a digest of each table

1. A record is exact. Litestream is asked where it is, then a read transaction is opened, then it is asked again: the
   same answer twice means that it has exactly what the transaction sees. Litestream reads the log's file, where a
   commit is before SQLite shows it to anyone, so at the moment at which the transaction is opened nobody may be
   committing: the write lock is taken for it, for microseconds. When others commit too often for two equal answers, the
   lock is kept for one short question.
2. A record is written when its transaction is in the bucket. If that cannot be restored later, something was lost.
3. Digests are read on a connection of their own, at most a part of the time (`SHARE`): a large file has fewer records.

Litestream merges small files after minutes, and then not every transaction can be had any more. So there is a record
every two minutes while the database changes, and a drill tells "merged" from "missing".
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from perdure.errors import PerdureError
from perdure.replication.bucket import Bucket
from perdure.replication.control import Positions
from perdure.store.sqlite.moment import Moment, TableDigest, standing_still

FOLDER = "records"
EVERY_S = 120.0
SHARE = 500
"""A digest that took one second is made again after so many at the earliest."""
KEPT = 10
TRIES = 10
HELD_S = 0.25
"""How long others may be kept from committing."""
ARRIVAL_S = 60.0
LOOK_EVERY_S = 0.25
_KEY = re.compile(rf"{FOLDER}/(\d{{8,}})-([0-9a-f]{{16}})\.json", re.ASCII)

Sync = Callable[[], Positions]


class RecordFailed(PerdureError):
    """No record could be made, or what lies in the bucket is none."""


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """The content at Litestream's transaction `txid` of an epoch. What was committed before `at` (UTC) is in it."""

    database_id: str
    epoch: int
    txid: int
    at: datetime
    took_s: float
    tables: dict[str, TableDigest]

    @property
    def key(self) -> str:
        return f"{FOLDER}/{self.epoch:08d}-{self.txid:016x}.json"


def record(
    path: Path,
    sync: Sync,
    *,
    database_id: str,
    epoch: int,
    after: int = 0,
    brief: Sync | None = None,
    stop: threading.Event | None = None,
) -> Record | None:
    """Digest a database at a transaction that Litestream has; None when it is at `after` still. Blocks, for as long as
    reading the file takes, or until `stop` is set. `sync` asks the one Litestream that lives, `brief` does so with a
    timeout of `HELD_S`. Raises `RecordFailed`, `ControlError`, `StoreError`."""
    for tries in range(TRIES + 1 if brief is not None else TRIES):
        held = tries == TRIES
        with ExitStack() as opened:
            still = opened.enter_context(ExitStack())
            if held:
                still.enter_context(standing_still(path))
            at = datetime.now(UTC)
            first = (brief if held and brief is not None else sync)().txid
            if first == after:
                return None
            if not held:
                still.enter_context(standing_still(path))
            moment = opened.enter_context(Moment(path, stop))
            still.close()
            if not held and sync().txid != first:
                continue
            began = time.perf_counter()
            tables = moment.digests()
            took_s = round(time.perf_counter() - began, 3)
        return Record(database_id=database_id, epoch=epoch, txid=first, at=at, took_s=took_s, tables=tables)
    raise RecordFailed("there were commits all the time")


async def arrival(found: Record, sync: Sync) -> None:
    """Wait until a record's transaction is in the bucket. Raises `RecordFailed` after a minute, `ControlError`."""
    deadline = time.monotonic() + ARRIVAL_S
    while (await asyncio.to_thread(sync)).replicated_txid < found.txid:
        if time.monotonic() > deadline:
            raise RecordFailed(f"transaction {found.txid} did not get into the bucket within {ARRIVAL_S:g} s")
        await asyncio.sleep(LOOK_EVERY_S)


class Records:
    """The records of the database below `bucket`. Raises `BucketError`."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    async def put(self, made: Record) -> None:
        """Write a record, and delete all but the newest few."""
        await self.bucket.put(made.key, msgspec.json.format(msgspec.json.encode(made), indent=1))
        for key in (await self._keys())[:-KEPT]:
            await self.bucket.delete(key)

    async def newest(self, epoch: int) -> Record | None:
        """Give the newest record of an epoch; None when there is none. Raises `RecordFailed` when it cannot be read."""
        keys = [key for key in await self._keys() if _numbers(key)[0] == epoch]
        found = await self.bucket.get(keys[-1]) if keys else None
        if found is None:
            return None
        try:
            return msgspec.json.decode(found.data, type=Record)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise RecordFailed(f"{self.bucket.name}/{keys[-1]} cannot be read: {error}") from error

    async def _keys(self) -> list[str]:
        entries = await self.bucket.entries(FOLDER)
        return sorted((entry.key for entry in entries if _KEY.fullmatch(entry.key)), key=_numbers)


def _numbers(key: str) -> tuple[int, int]:
    match = _KEY.fullmatch(key)
    return (int(match[1]), int(match[2], 16)) if match else (0, 0)
