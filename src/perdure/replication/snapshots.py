"""Whole copies of a database, made without Litestream: the hedge against a fault in the stream.

    <prefix>/snapshots/2026-11-23T14-00-00Z-00000007.db.zst      as it was then, by the runner with epoch 7

1. A copy is what SQLite itself writes of one moment (`VACUUM INTO`), compressed and with a checksum. It needs nothing
   else to be restored: `zstd -d` makes a database of it.
2. Making one holds nobody up. It needs twice the size of the database in free space beside it.
3. The newest one is never deleted.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import zstandard

from perdure.errors import PerdureError
from perdure.replication.bucket import Bucket
from perdure.store.sqlite.moment import copy

FOLDER = "snapshots"
KEPT = 28
LEVEL = 3
TRANSFER_S = 3600.0
_KEY = re.compile(rf"{FOLDER}/(\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\dZ)-(\d{{8,}})\.db\.zst", re.ASCII)
_INSTANT = "%Y-%m-%dT%H-%M-%SZ"


class SnapshotFailed(PerdureError):
    """A snapshot could not be made or read."""


class NoSuchSnapshot(PerdureError):
    """There is no snapshot of this name."""

    hint = "name one that there is, or `latest`"


class Snapshot(NamedTuple):
    """One copy. `at` is the instant that it is from, UTC; `size_bytes` is the compressed size."""

    name: str
    at: datetime
    epoch: int
    size_bytes: int


class Snapshots:
    """The snapshots of the database below `bucket`. All calls raise `BucketError`."""

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket

    async def all(self) -> list[Snapshot]:
        """List them, oldest first."""
        found = []
        for entry in await self.bucket.entries(FOLDER):
            if match := _KEY.fullmatch(entry.key):
                at = datetime.strptime(match[1], _INSTANT).replace(tzinfo=UTC)
                found.append(Snapshot(entry.key.removeprefix(f"{FOLDER}/"), at, int(match[2]), entry.size_bytes))
        return sorted(found, key=lambda one: (one.at, one.epoch))

    async def take(
        self, database: Path, epoch: int, *, folder: Path | None = None, stop: threading.Event | None = None
    ) -> Snapshot:
        """Copy a database that may be in use, and upload the copy. `folder` is where it is made, by default beside it.
        Raises `SnapshotFailed`, `StoreError`."""
        at = datetime.now(UTC).replace(microsecond=0)
        name = f"{at.strftime(_INSTANT)}-{epoch:08d}.db.zst"
        with tempfile.TemporaryDirectory(prefix=f".{database.name}-snapshot-", dir=folder or database.parent) as made:
            packed = await asyncio.to_thread(_packed_copy, database, Path(made), stop)
            await self.bucket.put(f"{FOLDER}/{name}", packed, timeout_s=TRANSFER_S)
            return Snapshot(name, at, epoch, packed.stat().st_size)

    async def prune(self, keep: int = KEPT, days: float | None = None) -> int:
        """Delete all but the newest `keep`, and those that are older than `days`; give how many."""
        found = await self.all()
        oldest = None if days is None else datetime.now(UTC) - timedelta(days=days)
        old = [one for n, one in enumerate(reversed(found)) if n and (n >= keep or (oldest and one.at < oldest))]
        for one in old:
            await self.bucket.delete(f"{FOLDER}/{one.name}")
        return len(old)

    async def find(self, name: str = "latest") -> Snapshot:
        """Give a snapshot by its name, or the newest. Raises `NoSuchSnapshot`."""
        found = await self.all()
        match = found[-1:] if name == "latest" else [one for one in found if one.name == name]
        if not match:
            names = ", ".join(one.name for one in found[-5:])
            hint = f"the newest: {names}" if names else "`perdure worker … --snapshot-every 6h` makes them"
            what = "snapshot" if name == "latest" else f"snapshot {name}"
            raise NoSuchSnapshot(f"{self.bucket.name} has no {what}", hint=hint)
        return match[0]

    async def fetch(self, snapshot: Snapshot, to: Path) -> None:
        """Download a snapshot to a path that is not there yet. Raises `SnapshotFailed` when it is damaged."""
        found = await self.bucket.get(f"{FOLDER}/{snapshot.name}", timeout_s=TRANSFER_S)
        if found is None:
            raise SnapshotFailed(f"{self.bucket.name}: {snapshot.name} is gone")
        await asyncio.to_thread(_unpack, found.data, to, snapshot.name)


def _packed_copy(database: Path, folder: Path, stop: threading.Event | None) -> Path:
    size, free = database.stat().st_size, shutil.disk_usage(folder).free
    if free < 2 * size:
        hint = "free space, or take snapshots in another folder"
        raise SnapshotFailed(f"a snapshot of {size:,} bytes needs twice that, and {free:,} are free", hint=hint)
    plain, packed = folder / "copy.db", folder / "copy.db.zst"
    copy(database, plain, stop)
    with plain.open("rb") as source, packed.open("xb") as target:
        compressor = zstandard.ZstdCompressor(level=LEVEL, write_checksum=True)
        compressor.copy_stream(source, target, size=plain.stat().st_size)
    plain.unlink()
    return packed


def _unpack(data: bytes, to: Path, name: str) -> None:
    try:
        with to.open("xb") as target, zstandard.ZstdDecompressor().stream_reader(data) as source:
            shutil.copyfileobj(source, target, 1024 * 1024)
            if not target.tell() or target.tell() != zstandard.frame_content_size(data):
                raise SnapshotFailed(f"{name} is cut off")
    except zstandard.ZstdError as error:
        raise SnapshotFailed(f"{name} is damaged: {error}") from error
