"""Checked by mypy, never run: decorators keep signatures and types, and handles know their results."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import assert_type

from perdure import Call, Client, Engine, Execution, Retry, Saga, Signal, Transaction, activity, workflow
from perdure.blocking import Blocking


@dataclass
class Order:
    id: str
    items: list[str]


@activity
async def charge(order: Order, cents: int = 0) -> str:
    return order.id


@activity(retry=Retry(attempts=3), timeout_s=5)
async def reserve(order: Order) -> int:
    return 1


@activity
def refund(charge_id: str) -> None: ...


@activity(executor="process")
def crunch(n: int) -> float:
    return float(n)


@activity(exec=["convert", "-"])
def convert(path: str) -> bytes:
    raise NotImplementedError


@activity(transactional=True)
def book(db: Transaction, order: Order) -> int:
    return len(db.execute("SELECT 1"))


approved = Signal("approved", bool)


@workflow
async def ship(item: str) -> str:
    return item


@workflow
async def fulfil(order: Order) -> list[str]:
    assert_type(await charge(order), str)
    assert_type(await charge(order, cents=5), str)
    assert_type(charge.submit(order), Call[str])
    assert_type(await reserve(order), int)
    assert_type(await refund.submit("x"), None)
    assert_type(await asyncio.to_thread(crunch, 3), float)
    assert_type(await approved.receive(), bool)
    assert_type(await ship("a"), str)
    assert_type(await ship.options(id="b").submit("a"), str)
    assert_type(await charge.options(timeout_s=5).submit(order), str)
    async with Saga() as saga:
        saga.add(refund, "x")
    await charge(3)  # type: ignore[arg-type]
    await charge()  # type: ignore[call-arg]
    await charge(order, euros=1)  # type: ignore[call-arg]
    return await asyncio.gather(*(ship(item) for item in order.items))


@workflow
def plain(n: int) -> float:
    assert_type(crunch(n), float)
    assert_type(crunch.submit(n).result(), float)
    refund(n)  # type: ignore[arg-type]
    return crunch(n)


@workflow(name="other", strict=True)
async def named(n: int) -> str:
    return str(n)


async def use() -> None:
    async with Engine("shop.db", workflows=[fulfil, plain, named]) as engine:
        execution = await engine.start(fulfil, Order("1", []), id="order-1")
        assert_type(execution, Execution[list[str]])
        assert_type(await execution.result(), list[str])
        await execution.signal(approved, True)
        await execution.signal(approved, "yes")  # type: ignore[misc]
        assert_type(await (await engine.start(plain, 3)).result(), float)
        assert_type(await (await engine.start(named, 3)).result(), str)
        await engine.start(charge, 3)  # type: ignore[arg-type]
    async with Client("shop.db") as client:
        assert_type(client.execution("order-1", fulfil), Execution[list[str]])
    with Blocking(engine) as blocking:
        assert_type(blocking.start(plain, 1).result(), float)
