"""Which of the paths of a database in the bucket holds the truth.

    <prefix>/lease.json      who runs it
    <prefix>/current.json    which epoch is the truth, since when, and which were before
    <prefix>/00000007/…      what the runner with epoch 7 streamed

1. A runner streams to the path of its own epoch, and points `current.json` at it when all of the database is there.
   Until then the truth is where it was, and the new path may be anything: it is restored only if the truth is damaged.
2. `current.json` goes forward only, and stays with one database. A runner that was replaced is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Literal, NamedTuple

import msgspec

from perdure.errors import InternalError, PerdureError, StaleRunner
from perdure.replication.bucket import Bucket, Found
from perdure.replication.refusal import BucketConflict

KEY = "current.json"
KEPT_ERAS = 1000
"""How many earlier epochs are remembered, for restores of the past."""
_EPOCH = re.compile(r"[0-9]{8,}", re.ASCII)


class EpochsDamaged(PerdureError):
    """`current.json` cannot be read."""

    hint = "restore from the newest epoch that can be: `perdure restore … --epoch N`"


class WrongDatabase(PerdureError):
    """The prefix belongs to another database."""

    hint = "give each database a prefix of its own"


class Era(msgspec.Struct, frozen=True):
    """An epoch that was the truth, since `began_at` (UTC) and until the next one began."""

    epoch: int
    began_at: datetime


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `current.json`. Instants are UTC, by the runner's clock."""

    epoch: int
    path: str
    database_id: str
    schema_version: int = 0
    holder: str = ""
    committed_at: datetime
    """When this epoch became the truth."""
    earlier: tuple[Era, ...] = ()
    """Oldest first."""

    @property
    def era(self) -> Era:
        return Era(self.epoch, self.committed_at)


class Candidate(NamedTuple):
    """An epoch to restore from. `current` is the truth; `earlier` was, and misses what came later; `unfinished` never
    was, and may hold what nobody was told of."""

    epoch: int
    standing: Literal["current", "unfinished", "earlier"]


def path_of(epoch: int) -> str:
    """Give the path of an epoch below the prefix."""
    return f"{epoch:08d}"


class Epochs:
    """The epochs of the database below `bucket`."""

    def __init__(self, bucket: Bucket, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self.bucket = bucket
        self._now = now

    async def current(self) -> Current | None:
        """Read which epoch is the truth; None when there is none yet. Raises `EpochsDamaged`, `BucketError`."""
        found = await self.bucket.get(KEY)
        return None if found is None else self._decode(found)

    async def advance(self, epoch: int, *, database_id: str, schema_version: int = 0, holder: str = "") -> Current:
        """Make an epoch the truth. Doing it twice is fine: after `BucketUnreachable` just do it again.

        Without conditional writes in the store it is a read and a write: then only one process may do it.
        Raises `StaleRunner` when a later epoch is the truth or this one is another's, `WrongDatabase`, `EpochsDamaged`,
        `BucketError`.
        """
        while True:
            found = await self.bucket.get(KEY)
            before = None if found is None else self._decode(found)
            if before is not None and before.database_id != database_id:
                raise WrongDatabase(f"{self.bucket.name} holds database {before.database_id}, not {database_id}")
            if before is not None and before.epoch > epoch:
                hint = "this process was replaced: it must stop"
                raise StaleRunner(f"{self.bucket.name}: epoch {before.epoch} is the truth, not {epoch}", hint=hint)
            if before is not None and before.epoch == epoch:
                if before.holder != holder:
                    hint = "use a lease, or run the database on one machine only"
                    raise StaleRunner(f"{self.bucket.name}: epoch {epoch} belongs to {before.holder}", hint=hint)
                return before
            new = Current(
                epoch=epoch,
                path=path_of(epoch),
                database_id=database_id,
                schema_version=schema_version,
                holder=holder,
                committed_at=self._now(),
                earlier=() if before is None else (*before.earlier, Era(before.epoch, before.committed_at)),
            )
            try:
                await self._write(msgspec.structs.replace(new, earlier=new.earlier[-KEPT_ERAS:]), found)
            except BucketConflict:
                continue
            return new

    async def _write(self, new: Current, found: Found | None) -> None:
        data = msgspec.json.format(msgspec.json.encode(new), indent=1)
        if not await self.bucket.honours_conditions():
            await self.bucket.put(KEY, data)
        elif found is None:
            await self.bucket.create(KEY, data)
        else:
            await self.bucket.replace(KEY, data, found.etag)

    # --- which there are --------------------------------------------------------------------------------------------

    async def all(self) -> list[int]:
        """List the epochs that have a path with anything in it, ascending."""
        return sorted(int(name) for name in await self.bucket.folders() if _EPOCH.fullmatch(name))

    async def highest(self) -> int:
        """Give the highest epoch that was used, 0 when none was: a new one must be higher."""
        try:
            current = await self.current()
        except EpochsDamaged:  # the paths are there all the same
            current = None
        return max([*await self.all(), current.epoch if current is not None else 0])

    async def candidates(self) -> list[Candidate]:
        """Give what to restore from, best first: the truth; then runners that restored it and did not get to point at
        their own copy, newest first; then what was the truth before, newest first."""
        try:
            current = await self.current()
        except EpochsDamaged:
            current = None
        there = sorted({*await self.all(), *([current.epoch] if current is not None else [])}, reverse=True)
        if current is None:
            return [Candidate(epoch, "unfinished") for epoch in there]
        truths = {era.epoch for era in current.earlier}
        return [
            Candidate(current.epoch, "current"),
            *(Candidate(epoch, "unfinished") for epoch in there if epoch > current.epoch),
            *(
                Candidate(epoch, "earlier" if epoch in truths else "unfinished")
                for epoch in there
                if epoch < current.epoch
            ),
        ]

    async def at(self, instant: datetime) -> int | None:
        """Give the epoch that was the truth at an instant (aware); None when there was none yet."""
        current = await self.current()
        if current is None:
            return None
        eras = [*current.earlier, current.era]
        return next((era.epoch for era in reversed(eras) if era.began_at <= instant), None)

    async def expired(self, before: datetime) -> list[int]:
        """Give the epochs that no restore of `before` (aware) or later needs, oldest first: a later one was the truth
        already then."""
        current = await self.current()
        if current is None:
            return []
        eras = [*current.earlier, current.era]
        older = [epoch for epoch in await self.all() if epoch < current.epoch]
        return [epoch for epoch in older if next(era.began_at for era in eras if era.epoch > epoch) < before]

    async def remove(self, epoch: int) -> int:
        """Delete all of an epoch that is not needed any more; give how many objects. Never the truth, nor what may
        become it."""
        current = await self.current()
        if current is None or epoch >= current.epoch:
            raise InternalError(f"{self.bucket.name}: epoch {epoch} is not older than the truth")
        entries = await self.bucket.entries(path_of(epoch))
        for entry in entries:
            await self.bucket.delete(entry.key)
        return len(entries)

    def _decode(self, found: Found) -> Current:
        try:
            return msgspec.json.decode(found.data, type=Current)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise EpochsDamaged(f"{self.bucket.name}/{KEY} cannot be read: {error}") from error
