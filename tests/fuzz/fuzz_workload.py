"""The executions that stand in the databases of these tests, one of each kind, and what they must come to.

`prepare` writes a file in which all of them are under way: waiting for timers, signals, children, completions and
next attempts, paused, pending, closed, with state, large payloads, heartbeats and requests in the inbox. `drive`
brings them to their ends with another engine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from perdure import (
    Client,
    Engine,
    Execution,
    Retry,
    Signal,
    Status,
    activity,
    continue_as_new,
    current_attempt,
    state,
    workflow,
)
from perdure.codec.payload import Codec

approved = Signal("approved", str)
FAST = Retry(attempts=3, initial_s=0.001, jitter=False)
DAY_S = 86_400
LARGE = "large " * 20_000
PATIENCE_S = 20.0


class Refused(Exception):
    """What the workload fails with."""


@activity(retry=FAST)
async def echo(text: str) -> str:
    return text


@activity(retry=FAST)
def echo_in_thread(text: str) -> str:
    return text


@activity(retry=Retry(attempts=3, initial_s=DAY_S / 2, jitter=False))
async def flaky(text: str) -> str:
    if current_attempt().number < 2:
        raise ConnectionError("try later")
    return text


@activity
async def ask(text: str) -> str:
    attempt = current_attempt()
    attempt.heartbeat({"asked": text})
    if not Path(text).exists():  # poison may have it asked again
        Path(text).write_text(attempt.token)
    attempt.finish_later()


@activity(retry=Retry(attempts=1))
async def refuse(text: str) -> str:
    raise Refused(text)


@workflow
async def sleeper(name: str) -> str:
    state["phase"] = "sleeps"
    await echo(name)
    await asyncio.sleep(DAY_S / 2)
    return await echo_in_thread.submit(f"{name} slept")


@workflow
async def receiver(name: str) -> list[str]:
    first = await approved.receive()
    await echo(first)
    async with asyncio.timeout(10 * DAY_S):
        return [first, await approved.receive()]


@workflow
async def child(name: str) -> str:
    await asyncio.sleep(DAY_S / 2)
    return await echo(name)


@workflow
async def family(name: str) -> list[str]:
    return list(await asyncio.gather(child(f"{name} a"), child(f"{name} b"), echo(f"{name} c")))


@workflow
async def retrier(name: str) -> str:
    try:
        await refuse(name)
    except Refused:
        return await flaky(name)
    return "not refused"


@workflow
async def keeper(name: str, rounds: int = 2) -> str:
    state["left"] = rounds
    large = await echo(LARGE)
    await asyncio.sleep(DAY_S / 4)
    if rounds:
        continue_as_new(name, rounds - 1)
    return f"{name} {len(large)}"


@workflow
async def outsider(name: str, path: str) -> str:
    return await ask(path)


@workflow
def plain(name: str) -> str:
    told = echo(name).result()
    approved.receive().result()
    return f"{told} approved"


@workflow
async def failing(name: str) -> str:
    await refuse(name)
    return "not refused"


@workflow
async def quick(name: str) -> str:
    return await echo(name)


WORKFLOWS = (sleeper, receiver, family, retrier, keeper, outsider, plain, failing, quick)
NAMES = tuple(found.name for found in WORKFLOWS)


class Clock:
    """The wall clock, and what it was put forward by."""

    def __init__(self) -> None:
        self.ahead_us = 0

    def now_us(self) -> int:
        return time.time_ns() // 1000 + self.ahead_us


def expected(id: str) -> Any:
    """Give the result that an execution must come to; for `failing` the text of its error."""
    return {
        "sleeper": f"{id} slept",
        "receiver": ["yes", "yes"],
        "family": [f"{id} a", f"{id} b", f"{id} c"],
        "retrier": id,
        "keeper": f"{id} {len(LARGE)}",
        "outsider": "answered",
        "plain": f"{id} approved",
        "failing": id,
        "quick": id,
    }[id.partition("-")[0]]


async def prepare(database: Path, sets: int, codec: Codec | None = None) -> list[str]:
    """Write a database with `sets` executions of each kind; give their ids. Beside it lie the tokens, by id."""
    ids = [f"{found.name}-{number}" for number in range(sets) for found in WORKFLOWS]
    by_name = {found.name: found for found in WORKFLOWS}
    async with Engine(database, WORKFLOWS, codec=codec, grace_s=0.0, synchronous="normal") as engine:
        for id in ids:
            extra = [str(token_file(database, id))] if id.startswith("outsider") else []
            await engine.start(by_name[id.partition("-")[0]], id, *extra, id=id)
        await quiet(engine)
        for id in ids:
            if id.startswith("plain"):
                await engine.execution(id).pause("for a while")
    async with Client(database, codec=codec, synchronous="normal") as client:
        for id in ids:
            if id.startswith("receiver"):
                await client.execution(id).signal(approved, "yes")
        for number in range(sets):
            ids.append(f"quick-late{number}")
            await client.start(quick, ids[-1], id=ids[-1], timeout_s=10 * DAY_S)
    return ids


async def quiet(engine: Engine) -> None:
    """Wait until nothing runs."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        counts = await engine.counts()
        if not counts.get(Status.PENDING, 0) + counts.get(Status.RUNNING, 0):
            return
        assert time.monotonic() < deadline, counts
        await asyncio.sleep(0.002)


def token_file(database: Path, id: str) -> Path:
    return database.with_name(f"token-{id}")


async def drive(engine: Engine, ids: Iterable[str], tokens: Path, patience_s: float = PATIENCE_S) -> dict[str, Any]:
    """Do for each execution what its end needs, and give how each has ended: its result, or what went wrong."""

    async def bring(id: str) -> Any:
        execution: Execution[Any] = engine.execution(id)
        kind = id.partition("-")[0]
        if kind == "plain":
            await execution.resume()
        if kind in ("receiver", "plain"):
            await execution.signal(approved, "yes")
        if kind == "outsider":
            await engine.complete(token_file(tokens, id).read_text(), "answered")
        return await execution.result()

    async def one(id: str) -> Any:
        try:
            return await asyncio.wait_for(bring(id), patience_s)
        except Exception as error:
            return str(error) if isinstance(error, Refused) else error

    found = list(ids)
    return dict(zip(found, await asyncio.gather(*map(one, found)), strict=True))
