"""Running a database that lives in a bucket, on a machine that has no copy of it.

1. Nobody else runs it meanwhile: the lease is held from before the restore until after the last upload.
2. The local copy is made anew each time. One from before may miss what another machine has done since.
3. The local copy is deleted at the end, unless it has something that did not get into the bucket.

    waiting for the lease ──▶ restoring ──▶ ready ── run an Engine on `path` with `replica` ──▶ released
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from perdure.replication.bucket import Bucket
from perdure.replication.epochs import Epochs
from perdure.replication.lease import TTL_S as LEASE_S
from perdure.replication.lease import Lease, new_holder
from perdure.replication.replica import Replica
from perdure.replication.restore import NothingToRestore, Restored, restore

logger = logging.getLogger("perdure.replication")


class Claim:
    """See the module. `folder` is where the local copy is made, by default a temporary one.

        async with Claim(Replica("s3://bucket/prefix/shop")) as claim:
            async with Engine(claim.path, workflows=[fulfil], replicate=claim.replica) as engine:
                ...

    `lease_s` is how long a machine that died keeps others from taking over. `progress` is told of each step, in words.
    Raises `LeaseRefused` where the store has no conditional writes, `LeaseHeld` after `patience_s`, `RestoreFailed`.
    """

    def __init__(
        self,
        replica: Replica,
        *,
        folder: Path | None = None,
        lease_s: float = LEASE_S,
        patience_s: float | None = None,
        progress: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.bucket = Bucket.open(replica.target)
        self.lease = Lease(self.bucket, new_holder(), ttl_s=lease_s, floor=Epochs(self.bucket).highest)
        self.replica = dataclasses.replace(replica, lease=self.lease)
        self.patience_s = patience_s
        self.progress = progress
        self.restored: Restored | None = None
        """What was restored; None for a database that is new."""
        self._given = folder
        self._folder: Path | None = None

    @property
    def path(self) -> Path:
        """Where the local copy is."""
        assert self._folder is not None, "claim it first: async with"
        return self._folder / f"{self.replica.target.prefix.rpartition('/')[2] or 'perdure'}.db"

    async def __aenter__(self) -> Self:
        try:
            self.progress(f"waiting for the lease of {self.replica.target}")
            await self.lease.acquire(self.patience_s)
            self._folder = await asyncio.to_thread(self._make_folder)
            try:
                self.restored = await restore(self.replica.target, self.path, progress=self.progress)
            except NothingToRestore:
                self.progress("there is nothing in the bucket yet: a new database")
            self.lease.check()
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.lease.release()
        if self._folder is None:
            return
        if all(stream.complete for stream in self.replica.streams):
            await asyncio.to_thread(shutil.rmtree, self._folder, True)
        else:
            logger.error("%s is kept: its last commits are not in %s", self.path, self.replica.target)
        self._folder = None

    def _make_folder(self) -> Path:
        if self._given is not None:
            self._given.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="perdure-", dir=self._given))
