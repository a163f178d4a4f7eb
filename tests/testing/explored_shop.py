"""Workflows to explore: some correct, some with the bugs that exploring is for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

from perdure import Retry, Saga, Signal, activity, current_attempt, workflow

FOREVER = Retry(attempts=None)
approved = Signal("approved", bool)


class Declined(Exception):
    pass


class Bank:
    """The world outside. With `keyed` it removes duplicates by their idempotency keys, as real ones do if asked."""

    def __init__(self, keyed: bool = True) -> None:
        self.keyed = keyed
        self.charged: list[str] = []
        self._seen: set[str] = set()

    def charge(self, order: str) -> str:
        key = current_attempt().idempotency_key
        if not self.keyed or key not in self._seen:
            self.charged.append(order)
        self._seen.add(key)
        return f"receipt-{order}"

    def refund(self, order: str) -> None:
        if order in self.charged:
            self.charged.remove(order)


@activity(retry=Retry(attempts=3), timeout_s=60)
async def charge(order: str) -> str:
    raise NotImplementedError


@activity(retry=FOREVER)
async def refund(order: str) -> None:
    raise NotImplementedError


@activity
async def ship(item: str) -> str:
    raise NotImplementedError


# --- correct --------------------------------------------------------------------------------------------------------


@workflow
async def careful(order: str) -> str:
    async with Saga() as saga:
        saga.add(refund, order)  # before the charge: its answer may be lost
        receipt = await charge(order)
        async with asyncio.timeout(86_400):
            await approved.receive()
        await asyncio.gather(ship(f"{order}-a"), ship(f"{order}-b"))
    return receipt


@workflow
def plain(order: str) -> str:
    with Saga() as saga:
        saga.add(refund, order)
        receipt = charge.submit(order).result()
        return f"{receipt}, {ship.submit(order).result()}"


@workflow
async def parent(orders: list[str]) -> list[str]:
    return await asyncio.gather(*(packed(order) for order in orders))


@workflow
async def packed(order: str) -> str:
    return await ship(order)


@workflow
async def monitor() -> None:
    while True:
        await ship("heartbeat")
        await asyncio.sleep(3600)


began: list[str] = []


@workflow
async def counted(order: str) -> str:
    """Leaves a trace outside the log each time that its code begins."""
    began.append(order)
    await ship(order)
    await asyncio.sleep(60)
    return await ship(order)


# --- with a bug -----------------------------------------------------------------------------------------------------


@workflow
async def hasty(order: str) -> str:
    receipt = await charge(order)
    await ship(order)
    return receipt


@workflow
async def forgetful(order: str) -> str:
    """Undoes what failed, and not what was cancelled."""
    try:
        receipt = await charge(order)
        await ship(order)
    except Exception:
        await refund(order)
        raise
    return receipt


@workflow
async def careless_undo(order: str) -> str:
    """Undoes only what it knows to be done."""
    async with Saga() as saga:
        receipt = await charge(order)
        saga.add(refund, order)
        await ship(order)
    return receipt


@workflow
async def by_set(words: list[str]) -> list[str]:
    return [await ship(word) for word in set(words)]  # perdure: deterministic


@workflow
async def by_time(order: str) -> str:
    return f"{await ship(order)} at {time.time_ns()}"  # perdure: deterministic


@workflow
async def racing(order: str) -> list[str]:
    done = []

    async def one(item: str) -> None:
        await ship(item)
        done.append(item)

    await asyncio.gather(one("a"), one("b"))
    return done


@workflow
async def reading(order: str) -> str:
    await ship(order)
    return Path("/etc/hostname").read_text()  # perdure: deterministic


@workflow
async def deaf(order: str) -> str:
    """Waits for its approval for ever once it was too slow to hear it."""
    await ship(order)
    await approved.receive()
    await approved.receive()
    return order


@workflow
async def fragile(order: str) -> str:
    """Breaks when the undo step is hit while it undoes."""
    try:
        await charge(order)
        await ship(order)
    except BaseException:
        await refund.options(retry=Retry(attempts=1))(order)
        raise
    return order
