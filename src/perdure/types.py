"""Words that every layer shares: statuses, instants and the descriptions that reads return."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

import msgspec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LATEST_US = 253_402_300_799_000_000
"""The last instant that a timer can be due at: the end of the year 9999."""
_DAY_US = 86_400_000_000
_EARLIEST_US = -62_135_596_800_000_000
"""The first instant that a datetime can be, in the year 1."""


class Status(StrEnum):
    """Where an execution stands. The first five are open, the rest closed."""

    PENDING = "pending"
    RUNNING = "running"
    WAITING = "waiting"
    PAUSED = "paused"
    BLOCKED = "blocked"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TERMINATED = "terminated"
    CONTINUED = "continued"

    @property
    def closed(self) -> bool:
        return self in _CLOSED


_CLOSED = frozenset(
    {Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED, Status.CONTINUED},
)


class Durability(StrEnum):
    """What has to have happened before a caller is answered, or an activity that cannot be undone is started."""

    LOCAL = "local"
    """What led to it is on the disk."""
    REPLICATED = "replicated"
    """It is in the replica, too."""


class Conflict(StrEnum):
    """What `start` does when the id is taken."""

    JOIN = "join"
    """Same workflow and input: give the same execution; anything else is an `ExecutionExists` error."""
    REJECT = "reject"
    """Always an `ExecutionExists` error."""
    REPLACE = "replace"
    """A closed execution makes room for a new run under the same id; an open one is joined as with `join`."""


class ExecutionInfo(msgspec.Struct, frozen=True):
    """One row of the executions view. Instants are aware UTC datetimes; `error` is one line, for people."""

    id: str
    run: int
    workflow: str
    status: Status
    created_at: datetime
    ended_at: datetime | None = None
    parent_id: str | None = None
    events: int = 0
    deployment: str | None = None
    problem: str | None = None
    error: str | None = None


class HistoryEvent(msgspec.Struct, frozen=True):
    """One event as a reader sees it. `data` is JSON text; `ref` is the `seq` of the event that this one answers."""

    seq: int
    kind: str
    at: datetime
    ref: int | None = None
    name: str | None = None
    data: str | None = None

    def value(self) -> Any:
        """Give `data` as plain JSON values; None where there is none."""
        return None if self.data is None else msgspec.json.decode(self.data)


def later(us: int, delay_s: float) -> int:
    """Give the instant that is `delay_s` seconds after `us`, the last one that there is at most."""
    return us + round(delay_s * 1e6) if delay_s * 1e6 < LATEST_US - us else LATEST_US


def storable(text: str) -> bool:
    """Say whether a name can be kept: it has no NUL and no lone surrogates."""
    try:
        return "\x00" not in text and (text.isascii() or bool(text.encode()))
    except UnicodeEncodeError:
        return False


def instant(us: int) -> datetime:
    """Turn microseconds since 1970 into an aware UTC datetime: the nearest that exists in every time zone."""
    us = min(max(us, _EARLIEST_US + _DAY_US), LATEST_US - _DAY_US)
    return _EPOCH + timedelta(microseconds=us)


def microseconds(at: datetime) -> int:
    """Turn an aware datetime into microseconds since 1970."""
    return (at - _EPOCH) // timedelta(microseconds=1)
