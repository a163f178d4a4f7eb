"""The program that the command-line tests run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

from perdure import Retry, Signal, activity, continue_as_new, current_attempt, state, workflow


@dataclass
class Order:
    id: str
    items: list[str]


class Rejected(Exception):
    pass


approved = Signal("approved", bool)


@activity(retry=Retry(attempts=3, initial_s=0.001))
async def charge(order: Order) -> str:
    print("charging", order.id, flush=True)
    if current_attempt().number < 3:
        raise ConnectionError("no route to \x1b[31mthe bank")
    return f"charge-{order.id}"


@workflow
async def ship(item: str) -> str:
    return item.upper()


@activity
async def remind(order: Order) -> None:
    print("please approve", order.id, flush=True)


@workflow
async def fulfil(order: Order) -> list[str]:
    await charge(order)
    state["step"] = "waiting"
    await remind(order)
    if not await approved.receive():
        raise Rejected(order.id)
    return await asyncio.gather(*(ship(item) for item in order.items))


@workflow
async def charged(order: Order) -> str:
    return await charge(order)


@workflow
async def double(n: int = 21, *, note: str = "") -> int:
    return 2 * n


@workflow
async def broken(wish: str = "none") -> None:
    raise ValueError(f"broken by {wish}")


@activity(retry=Retry(attempts=2, initial_s=3600, max_s=3600, jitter=False))
async def call_tomorrow() -> None:
    raise ConnectionError("busy")


@workflow
async def patient() -> None:
    await call_tomorrow()


@activity
def wait_for(pipe: str) -> str:
    """Say that it runs, then wait until somebody writes into the pipe."""
    print("waiting", flush=True)
    return Path(pipe).read_text()


@workflow
async def hold(pipe: str) -> str:
    return await wait_for.submit(pipe)


@activity
async def ask(folder: str) -> bool:
    attempt = current_attempt()
    Path(folder, "token").write_text(attempt.token)
    attempt.finish_later()


@workflow
async def asking(folder: str) -> bool:
    try:
        return await ask(folder)
    except Rejected as error:
        state["rejected"] = str(error)
        return False


@workflow
async def loop(left: int) -> str:
    if left:
        continue_as_new(left - 1)
    return "done"


@workflow
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "awake"
