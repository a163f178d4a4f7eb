"""What the engine asks of whoever carries its commits to a safer place. `perdure.replication` is one that does.

1. The engine never waits for a replica with anything that is local: it commits, and then says so.
2. What must not happen before it is in the replica is handed over as a call; it is made on the loop, in the order of
   commits, with whether it arrived.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from perdure.store import Store

Arrived = Callable[[bool], None]
"""Told whether the commit is in the replica; false when the time for that is over, or the engine closes."""


class ReplicationStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the replication of a database is doing. Instants are UTC."""

    url: str
    """Where the replica is: the place, without settings and secrets."""
    epoch: int
    """Which path below it; 0 while that is not known."""
    holder: str
    """Who runs the database, as others see it."""
    lease: str | None
    """Where the lease stands, such as `held`; None without one."""
    lag_s: float
    """Age of the oldest commit that is not in the replica; 0 when all are there."""
    lag_commits: int
    lag_bytes: int
    """What waits to be uploaded."""
    commits: int
    """Commits since this runner began."""
    replicated_at: datetime | None
    """The instant of the newest commit that is in the replica; None while none of this runner's is."""
    wal_bytes: int
    litestream: Literal["starting", "running", "away", "stopped"]
    restarts: int
    problem: str | None
    """What keeps commits from getting there; None when nothing does."""
    snapshot_at: datetime | None = None
    """The instant of the newest snapshot."""
    drill_at: datetime | None = None
    """When the last drill ended."""
    drill_ok: bool = False
    chores: dict[str, str] = {}
    """What went wrong of what is done beside the stream: `record`, `snapshot`, `drill`."""


@dataclass(frozen=True, slots=True)
class Site:
    """The database that is to be replicated, and the engine that runs it. `now` gives microseconds since 1970."""

    path: Path
    database_id: str
    epoch: int
    store: Store
    loop: asyncio.AbstractEventLoop
    now: Callable[[], int]
    deployment: str | None
    stop: Callable[[BaseException], None]
    """Told when another machine has taken over: the engine stops, and does not try to lead again."""


class Stream(Protocol):
    """The commits of one engine, on their way."""

    def check(self) -> None:
        """Raise `StaleRunner` when another machine may have taken over: nothing may be committed or let out then."""

    def committed(self) -> int:
        """Take note of a commit; give its number, from 1. From any thread, but from one at a time."""

    def look(self) -> None:
        """Find out soon what has arrived: another process may wait for something that it committed itself."""

    def when_replicated(self, commit: int, call: Arrived) -> None:
        """Call `call` when a commit has arrived, or the time for it is over. 0 is what was there at the beginning."""

    async def reached(self) -> None:
        """Wait until everything that is committed has arrived. Raises `NotReplicated` as the settings say."""

    def status(self) -> ReplicationStatus:
        """Tell how it is doing."""

    def let_go(self) -> None:
        """Answer all who wait with false: the engine closes."""

    async def close(self) -> None:
        """Stop, after a last upload."""


class Replicator(Protocol):
    """Makes the stream of a database once an engine has become its runner."""

    def begin(self, site: Site) -> Stream: ...
