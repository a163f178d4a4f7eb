"""What runs while the power goes: one workflow per kind of thing that must survive, and what each must give."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any, NamedTuple

from perdure import (
    Retry,
    Saga,
    Signal,
    Transaction,
    activity,
    continue_as_new,
    current_attempt,
    execution_id,
    state,
    workflow,
)

number = Signal("number", int)
LAST = -1
AGAIN = Retry(attempts=None, initial_s=0.005, max_s=0.02, interruptions=100_000)


class Rejected(Exception):
    """What a job that must fail raises."""


class Effects:
    """Where activities say what they do to the world, `tell(execution, run, seq, attempt)`, and what they ask of it."""

    def __init__(self) -> None:
        self.tell: Callable[[str, int, int, int], None] = lambda *effect: None
        self.ask: Callable[[Question], None] = lambda question: None

    def take(self, key: str) -> None:
        attempt = current_attempt()
        id, run, seq = attempt.idempotency_key.rsplit(":", 2)
        self.tell(id, int(run), int(seq), attempt.number)

    def wait(self, key: str) -> None:
        attempt = current_attempt()
        id, run, seq = attempt.idempotency_key.rsplit(":", 2)
        self.ask(Question(attempt.token, key, id, int(run), int(seq)))


class Question(NamedTuple):
    """What an activity waits to hear from outside."""

    token: str
    key: str
    execution: str
    run: int
    seq: int


effects = Effects()


# --- activities -----------------------------------------------------------------------------------------------------


@activity(retry=AGAIN)
async def step(key: str) -> str:
    effects.take(key)
    await asyncio.sleep(0.002)
    return key


@activity(retry=AGAIN)
async def stumble(key: str, fails: int) -> str:
    effects.take(key)
    if current_attempt().number <= fails:
        raise OSError(key)
    return key


@activity(retry=AGAIN)
async def make_large(key: str) -> str:
    effects.take(key)
    return random.Random(key).randbytes(50_000).hex()


@activity(retry=AGAIN)
async def ask_outside(key: str) -> str:
    effects.take(key)
    effects.wait(key)
    current_attempt().finish_later()


@activity(transactional=True)
def tally(transaction: Transaction, execution: str, n: int) -> int:
    """Insert a row and give how many this execution has."""
    transaction.execute("CREATE TABLE IF NOT EXISTS tally (execution TEXT, n INTEGER)")
    transaction.execute("INSERT INTO tally VALUES (?, ?)", (execution, n))
    return transaction.execute("SELECT count(*) FROM tally WHERE execution = ?", (execution,))[0][0]


# --- workflows ------------------------------------------------------------------------------------------------------


@workflow
async def pipeline(n: int) -> list[str]:
    done = []
    for i in range(n):
        done.append(await step(f"s{i}"))
        state["done"] = i + 1
        await asyncio.sleep(0.003)
    return done


@workflow
async def leaf(n: int) -> int:
    await step(f"leaf{n}")
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
async def undone(n: int) -> None:
    """Fail, and undo."""
    async with Saga() as saga:
        for i in range(n):
            saga.add(step, f"undo{i}")
            await step(f"do{i}")
        raise Rejected(str(n))


@workflow
async def approved(n: int) -> list[str]:
    """Wait for answers from outside."""
    return list(await asyncio.gather(*(ask_outside(f"a{i}") for i in range(n))))


@workflow
async def large(n: int) -> list[int]:
    """Keep payloads that are stored apart, the same one several times."""
    texts = [await make_large(f"large{i % 2}") for i in range(n)]
    return [len(text) for text in texts]


@workflow
async def collect(received: list[int]) -> list[int]:
    """Receive numbers until the last one, a few in each run."""
    for _ in range(4):
        value = await number.receive()
        if value == LAST:
            return received
        received.append(value)
        if value % 2 == 0:
            await step(f"got{value}")
    return continue_as_new(received)


@workflow
async def guarded() -> None:
    """Wait to be cancelled, and clean up."""
    try:
        await asyncio.sleep(1_000_000)
    finally:
        await step("cleaned")


JOBS: list[Any] = [pipeline, fan, flaky, count_up, undone, approved, large]
WORKFLOWS: list[Any] = [*JOBS, leaf, collect, guarded]
BY_NAME = {made.name: made for made in WORKFLOWS}


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
        case "undone":
            return "Rejected"
        case "approved":
            return [f"a{i}" for i in range(n)]
        case "large":
            return [100_000] * n
        case "leaf":
            return 1
    raise ValueError(name)
