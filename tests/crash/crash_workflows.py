"""What the worker that is killed runs: one workflow per kind of thing that must survive, and what each must give."""

from __future__ import annotations

import asyncio
import os
import random
import time
from typing import Any

from perdure import (
    Retry,
    Saga,
    Signal,
    Transaction,
    activity,
    continue_as_new,
    current_attempt,
    execution_id,
    sleep,
    state,
    workflow,
)

number = Signal("number", int)
LAST = -1
AGAIN = Retry(attempts=None, initial_s=0.005, max_s=0.02, interruptions=100_000)


class Rejected(Exception):
    """What a job that must fail raises."""


def write_line(path: str, line: str) -> None:
    """Append a line and have it on the disk before returning; one write, so that lines of processes do not mix."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, f"{line}\n".encode())
        os.fsync(fd)
    finally:
        os.close(fd)


def take_effect(key: str) -> None:
    """Write the effect of the running attempt into the ledger: `execution run seq attempt key pid time`."""
    attempt = current_attempt()
    id, run, seq = attempt.idempotency_key.rsplit(":", 2)
    line = f"{id} {run} {seq} {attempt.number} {key} {os.getpid()} {time.time_ns()}"
    write_line(os.environ["PERDURE_CRASH_LEDGER"], line)


# --- activities -----------------------------------------------------------------------------------------------------


@activity(retry=AGAIN)
def step(key: str) -> str:
    take_effect(key)
    return key


@activity(retry=AGAIN)
async def async_step(key: str) -> str:
    await asyncio.sleep(0.002)
    take_effect(key)
    return key


@activity(retry=AGAIN)
async def slow_step(key: str) -> str:
    await asyncio.sleep(0.1)
    take_effect(key)
    return key


@activity(retry=AGAIN)
def stumble(key: str, fails: int) -> str:
    take_effect(key)
    if current_attempt().number <= fails:
        raise OSError(key)
    return key


@activity(retry=AGAIN)
async def ask_outside(key: str) -> str:
    """Leave the answer to another process: the token goes into a file."""
    attempt = current_attempt()
    take_effect(key)
    write_line(os.environ["PERDURE_CRASH_LEDGER"] + "-tokens", f"{attempt.token} {key}")
    attempt.finish_later()


@activity(retry=AGAIN)
def make_large(key: str) -> str:
    take_effect(key)
    return key * 50_000


@activity(transactional=True)
def tally(transaction: Transaction, execution: str, n: int) -> int:
    """Insert a row and give how many this execution has."""
    transaction.execute("CREATE TABLE IF NOT EXISTS tally (execution TEXT, n INTEGER)")
    transaction.execute("INSERT INTO tally VALUES (?, ?)", (execution, n))
    return transaction.execute("SELECT count(*) FROM tally WHERE execution = ?", (execution,))[0][0]


# --- workflows ------------------------------------------------------------------------------------------------------


@workflow
async def pipeline(n: int) -> list[str]:
    """Take steps one after the other, on the loop and in threads, with timers in between."""
    done = []
    for i in range(n):
        done.append(await (async_step(f"s{i}") if i % 2 else step.submit(f"s{i}")))
        await asyncio.sleep(0.003)
        state["done"] = i + 1
    return done


@workflow
async def leaf(n: int) -> int:
    await async_step(f"leaf{n}")
    return await tally.submit(execution_id(), n)


@workflow
async def fan(n: int) -> list[int]:
    """Start children at once."""
    return list(await asyncio.gather(*(leaf(i) for i in range(n))))


@workflow
async def flaky(n: int) -> list[str]:
    """Run activities that fail at first."""
    return list(await asyncio.gather(*(stumble.submit(f"f{i}", i % 3) for i in range(n))))


@workflow
async def count_up(n: int) -> list[int]:
    """Write rows, each exactly once."""
    return [await tally.submit(execution_id(), i) for i in range(n)]


@workflow
async def collect(n: int) -> list[int]:
    """Receive numbers until the last one."""
    received: list[int] = []
    while (value := await number.receive()) != LAST:
        received.append(value)
        if value % 4 == 0:
            await async_step(f"got{value}")
    return received


@workflow
async def relay(received: list[int]) -> list[int]:
    """Receive numbers, a few in each run."""
    for _ in range(3):
        value = await number.receive()
        if value == LAST:
            return received
        received.append(value)
        await async_step(f"relay{value}")
    return continue_as_new(received)


@workflow
def plainly(n: int) -> list[str]:
    """Do it all without `await`."""
    done = []
    for i in range(n):
        done.append(step(f"p{i}"))
        sleep(0.002)
    done += [call.result() for call in [async_step.submit(f"q{i}") for i in range(3)]]
    return done


@workflow
async def undone(n: int) -> None:
    """Fail, and undo."""
    async with Saga() as saga:
        for i in range(n):
            saga.add(step, f"undo{i}")
            await step.submit(f"do{i}")
        raise Rejected(str(n))


@workflow
async def limited(n: int) -> list[str]:
    """Let time limits pass."""
    results = []
    for _ in range(n):
        try:
            async with asyncio.timeout(0.01):
                await number.receive()
        except TimeoutError:
            results.append("late")
    return results


@workflow
async def at_once(n: int) -> list[str]:
    """Let timers fall due while activities run."""
    results = await asyncio.gather(*(slow_step(f"slow{i}") for i in range(n)), *(asyncio.sleep(0.01) for _ in range(n)))
    return [result for result in results if result]


@workflow
async def approved(n: int) -> list[str]:
    """Wait for answers from outside."""
    return list(await asyncio.gather(*(ask_outside(f"a{i}") for i in range(n))))


@workflow
async def large(n: int) -> list[int]:
    """Keep payloads that are stored apart, the same one several times."""
    texts = [await make_large.submit(f"large{i % 2}") for i in range(n)]
    return [len(text) for text in texts]


@workflow
async def guarded() -> None:
    """Wait to be cancelled, and clean up."""
    try:
        await asyncio.sleep(1_000)
    finally:
        await async_step("cleaned")


@workflow
async def tick(n: int) -> None:
    """Take steps until cancelled: there is always something to do."""
    for i in range(50):
        await async_step(f"tick{i}")
    continue_as_new(n)


JOBS: list[Any] = [pipeline, fan, flaky, count_up, plainly, undone, limited, at_once, approved, large]
WORKFLOWS: list[Any] = [*JOBS, collect, relay, guarded, tick]
BY_NAME = {made.name: made for made in WORKFLOWS}


def draw_job(choose: random.Random) -> tuple[Any, int]:
    return choose.choice(JOBS), choose.randint(1, 6)


def expected(name: str, n: int) -> Any:
    """Give the result of a job; the error's name for one that must fail."""
    match name:
        case "pipeline":
            return [f"s{i}" for i in range(n)]
        case "fan":
            return [1] * n
        case "flaky":
            return [f"f{i}" for i in range(n)]
        case "count_up":
            return list(range(1, n + 1))
        case "plainly":
            return [f"p{i}" for i in range(n)] + [f"q{i}" for i in range(3)]
        case "undone":
            return "Rejected"
        case "limited":
            return ["late"] * n
        case "at_once":
            return [f"slow{i}" for i in range(n)]
        case "approved":
            return [f"a{i}" for i in range(n)]
        case "large":
            return [300_000] * n
    raise ValueError(name)
