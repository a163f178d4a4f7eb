"""Another holder of a lease that we wait for: what it wrote last, and how long it has been silent since.

Its ttl counts from when we first saw what it wrote last, by our own clock: that is later than when it was written.
Instants of its own are not believed.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from typing import NamedTuple

from perdure.replication.lease_object import LeaseRecord

logger = logging.getLogger("perdure.replication")


class _Seen(NamedTuple):
    record: LeaseRecord
    at: float


class Rival:
    """See the module. `known_dead` names holders that certainly run no more."""

    def __init__(self, name: str, known_dead: Collection[str]) -> None:
        self.name = name
        """What messages call the database."""
        self.known_dead = known_dead
        self._seen: _Seen | None = None

    def look(self, record: LeaseRecord | None, now: float) -> bool:
        """Take note of what is written there, read before `now`; give whether the lease is free."""
        if record is None:
            self._seen = None
            return True
        before = self._seen
        if before is None or before.record.nonce != record.nonce:
            if before is None or before.record.epoch != record.epoch:
                logger.info("%s is run by %s (epoch %d)", self.name, record.holder, record.epoch)
            self._seen = before = _Seen(record, now)
        silent = now - before.at >= record.ttl_s
        return record.released or silent or record.holder in self.known_dead

    def told(self, now: float) -> str:
        """Say who it is, and how long one has to wait at the least."""
        if self._seen is None:
            return f"{self.name}: the lease could not be had"
        other = self._seen.record
        left_s = max(0.0, other.ttl_s - (now - self._seen.at))
        return (
            f"{self.name} is run by {other.holder} (epoch {other.epoch}); "
            f"if that is silent from now on, its lease ends in {left_s:.0f} s"
        )
