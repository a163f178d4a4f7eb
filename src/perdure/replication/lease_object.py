"""The object in the bucket that says who has the lease, and which of its versions we wrote.

1. Each write is unique (`nonce`), so an etag that is a hash names one write, and an object that is unchanged means that
   its holder is silent.
2. A write without an answer may have been done, or be done later. So may one that was refused: a proxy can have sent it
   twice. It stays on a list; a version that turns out to be one of these is ours, counted from when that one was sent.
3. Once a later write of ours is in the bucket, those before it can happen no more: their condition named an older
   version.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple

import msgspec

from perdure.errors import PerdureError
from perdure.replication.bucket import Bucket

KEY = "lease.json"


class LeaseRefused(PerdureError):
    """This store, or what lies in it, does not allow a lease."""


class LeaseRecord(msgspec.Struct, frozen=True):
    """The content of the object. The instants are the holder's own, for people."""

    holder: str
    epoch: int
    ttl_s: float
    nonce: str
    acquired_at: datetime
    renewed_at: datetime
    released: bool = False


class Version(NamedTuple):
    """What the object said when it was read. `sent_at` is when we sent it, by our own clock; None: others wrote it."""

    record: LeaseRecord
    etag: str
    sent_at: float | None


class LeaseObject:
    """Reads and writes the object of one database. `clock` gives seconds that only go forward."""

    def __init__(self, bucket: Bucket, clock: Callable[[], float], nonce: Callable[[], str]) -> None:
        self.bucket = bucket
        self.ours: Version | None = None
        """The last version that we know to be ours."""
        self._clock, self._nonce = clock, nonce
        self._sent: dict[str, float] = {}
        """Writes of which it is not known what became of them: nonce, and when each was sent."""

    @property
    def untouched(self) -> bool:
        """Whether nothing in the bucket can be ours."""
        return self.ours is None and not self._sent

    async def read(self, *, timeout_s: float | None = None) -> Version | None:
        """Read the object; None when there is none. Raises `BucketError`, and `LeaseRefused` when it is not a lease."""
        found = await self.bucket.get(KEY, timeout_s=timeout_s)
        if found is None:
            return None
        record = read_record(found.data, self.bucket.name)
        if self.ours is not None and self.ours.record.nonce == record.nonce:
            return self.ours
        version = Version(record, found.etag, self._sent.get(record.nonce))
        if version.sent_at is not None:
            self._adopt(version)
        return version

    async def write(self, record: LeaseRecord, etag: str | None, *, timeout_s: float) -> Version:
        """Write the object if it is still the version `etag`, or not there (None); the nonce is put in here.

        Raises `BucketConflict`, `BucketUnreachable`: in both cases it may have been done.
        """
        record = msgspec.structs.replace(record, nonce=self._nonce())
        data = msgspec.json.encode(record)
        sent_at = self._sent[record.nonce] = self._clock()
        if etag is None:
            etag = await self.bucket.create(KEY, data, timeout_s=timeout_s)
        else:
            etag = await self.bucket.replace(KEY, data, etag, timeout_s=timeout_s)
        version = Version(record, etag, sent_at)
        self._adopt(version)
        return version

    def forget(self) -> None:
        """Take nothing in the bucket for ours any more."""
        self.ours = None
        self._sent.clear()

    def _adopt(self, version: Version) -> None:
        self.ours = version
        self._sent.clear()


def read_record(data: bytes, where: str) -> LeaseRecord:
    """Decode the object. Raises `LeaseRefused` when it is not a lease."""
    try:
        record = msgspec.json.decode(data, type=LeaseRecord)
        if record.ttl_s > 0 and record.epoch > 0 and record.nonce:
            return record
        problem = "its values make no sense"
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        problem = str(error)
    raise LeaseRefused(
        f"{where}/{KEY} is not a lease: {problem}", hint="make sure that nobody runs this database, and delete it"
    )
