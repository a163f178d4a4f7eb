"""One tenant's place in the bucket, while this machine has it: the lease, and a local file that is the newest state.

1. Nobody else runs the tenant meanwhile: the lease is held from before the local file is looked at until after the last
   upload.
2. A local file is used again if nobody has run the tenant since we did. A note beside it says under which epoch that
   was; one that is behind is put aside, and fetched anew.
3. What may not be in the bucket is never deleted. What was only asked for in an old copy is asked for again.

    <prefix>/<name>/lease.json, current.json, 00000007/…       as for a single database
    .<name>.db-place                                           the note beside the local file
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.codec.payload import Payloads
from perdure.errors import PerdureError
from perdure.replication.bucket import Bucket
from perdure.replication.epochs import Current, Epochs
from perdure.replication.lease import Lease
from perdure.replication.restore import NothingToRestore, restore
from perdure.store.sqlite import SqliteStore
from perdure.tenants.carrying import carry_over
from perdure.tenants.place import Note, whereabouts, write_note

if TYPE_CHECKING:
    from perdure.replication.replica import Replica

logger = logging.getLogger("perdure.tenants")


class TwoDatabases(PerdureError):
    """There are a file here and a database in the bucket for one tenant, and nothing says that they are the same."""

    hint = "move the file away to have what is in the bucket, or give the folder a prefix of its own"


class Holding:
    """See the module. Made by `Fleet.take`. `replica` is what the tenant's engine gets."""

    def __init__(
        self, path: Path, lease: Lease, replica: Replica, bucket: Bucket, note: Note | None, payloads: Payloads
    ) -> None:
        self.path = path
        self.lease = lease
        self.replica = replica
        self.bucket = bucket
        self.note = note
        self.payloads = payloads

    @property
    def complete(self) -> bool:
        """Whether all that this machine knows of it is in the bucket."""
        return self.note is not None and self.note.complete

    async def settle(self, *, create: bool) -> None:
        """Make the local file the newest state, with the lease held. Without `create` there must be one already, here
        or in the bucket. Raises `NothingToRestore`, `TwoDatabases`, `RestoreFailed`, `BucketError`."""
        current = await Epochs(self.bucket).current()
        here = await asyncio.to_thread(self.path.exists)
        left = None
        if here and current is not None and not self._newest(current):
            left = await self._put_aside(current)
            here = False
        if not here:
            await self._fetch(create)
        if left is not None:
            await self._carry_over(left)
        self.lease.check()
        complete = self.note.complete if here and self.note is not None else not here
        await self._write(complete)

    async def leave(self, request: int = 0) -> None:
        """Let others have it. Never raises: what goes wrong is logged, and costs the next one its wait."""
        if self.replica.streams and self.note is not None:
            try:
                await self._write(all(stream.complete for stream in self.replica.streams), request)
            except OSError as error:
                logger.warning("%s: %s", self.path, error)
        await self.lease.release()

    def _newest(self, current: Current) -> bool:
        return self.note is not None and self.note.is_newest(self.path, current.epoch)

    async def _put_aside(self, current: Current) -> Path:
        """Make room for what is in the bucket; give where the old file is then."""
        if self.note is None or await asyncio.to_thread(_database_id, self.path) != current.database_id:
            raise TwoDatabases(f"{self.path} is not known to be the database that is at {self.bucket.name}")
        left = self.path.with_name(f".{self.path.name}-left-{self.note.epoch:08d}")
        for end in ("-wal", "-shm", ""):  # the file last: without it the others are in nobody's way
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{end}", f"{left}{end}")
        logger.info("%s: another machine has run it since (epoch %d)", self.path.name, current.epoch)
        return left

    async def _carry_over(self, left: Path) -> None:
        """Ask again for what was asked for in the old file. It is deleted if nothing else in it can be missed."""
        assert self.note is not None, "it was put aside because of what the note says"
        after = self.note.request if self.note.complete else None
        try:
            carried = await asyncio.to_thread(carry_over, left, self.path, after, self.payloads)
        except PerdureError as error:
            logger.error("%s: what was left here is kept as %s: %s", self.path.name, left, error)
            return
        if carried.starts or carried.requests:
            logger.warning(
                "%s: %d starts and %d requests were made in an old copy here, and are taken over",
                self.path.name, carried.starts, carried.requests,
            )  # fmt: skip
        if self.note.complete and not carried.left:
            for end in ("", "-wal", "-shm"):
                Path(f"{left}{end}").unlink(missing_ok=True)
            return
        logger.error("%s: what was left here may not all be in the bucket; it is kept as %s", self.path.name, left)

    async def _fetch(self, create: bool) -> None:
        for end in ("-wal", "-shm"):
            with contextlib.suppress(FileNotFoundError):
                os.replace(f"{self.path}{end}", self.path.with_name(f".{self.path.name}-left{end}"))
        try:
            await restore(self.replica.target, self.path, progress=lambda step: logger.debug("%s: %s", self.path, step))
        except NothingToRestore:
            if not create:
                raise

    async def _write(self, complete: bool, request: int = 0) -> None:
        target = str(self.replica.target)
        self.note = Note(target, self.lease.epoch, self.lease.holder, complete, request, whereabouts(self.path))
        await asyncio.to_thread(write_note, self.path, self.note)


def _database_id(path: Path) -> str:
    store = SqliteStore(path, create=False)
    try:
        return str(store.reader.meta("database_id"))
    finally:
        store.close()
