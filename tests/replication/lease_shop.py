"""One database's lease, with holders that share a store in memory and a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any

from lease_simulation import NOW, TTL_S, MemoryBucket, MemoryStore
from virtual_time import run_virtually

from perdure.replication.lease import Lease
from perdure.replication.lease_object import KEY, LeaseRecord, read_record
from perdure.replication.refusal import BucketUnreachable

AWAY = BucketUnreachable("no answer")
LOOK_S = 1.0
"""How often one who waits looks."""


def virtually(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        run_virtually(test(*arguments, **options))

    return run


class Shop:
    """A database's prefix, with holders that each reach it by a bucket of their own."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.skipped_s = 0.0

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + self.skipped_s

    def lease(self, holder: str, **options: Any) -> Lease:
        settings = {"ttl_s": TTL_S, "clock": self.clock, "now": lambda: NOW} | options
        lease = Lease(MemoryBucket(self.store), holder, **settings)  # type: ignore[arg-type] # as far as it needs one
        lease.states = []
        lease.on_state = options.get("on_state", lease.states.append)
        return lease

    @property
    def record(self) -> LeaseRecord:
        return read_record(self.store.objects[KEY], "shop")


async def kill(lease: Lease) -> None:
    """End it as `kill -9` would: nothing is said to anyone."""
    for task in lease._tasks:
        task.cancel()
    await asyncio.gather(*lease._tasks, return_exceptions=True)
    lease._tasks = []


async def seconds(call: Awaitable[Any]) -> float:
    """How long a call takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await call
    return loop.time() - began
