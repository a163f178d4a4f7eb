"""What runs in the long run: one workflow per kind of thing that could leave something behind."""

from __future__ import annotations

import asyncio
import secrets
from typing import Any

from perdure import (
    Retry,
    Saga,
    Signal,
    Transaction,
    Workflow,
    activity,
    continue_as_new,
    current_attempt,
    execution_id,
    sleep,
    state,
    workflow,
)

SOON = Retry(attempts=None, initial_s=0.02, max_s=0.1)
TALLY_ROWS = 2_000
"""So many rows the table of the transactional activity keeps: the file must not grow because of it."""

approved = Signal("approved", bool)
beat = Signal("beat", int)
tokens: dict[str, asyncio.Future[str]] = {}
"""Completion tokens of `ask_outside`, by execution, for the customer in this process that waits for one."""


class Rejected(Exception):
    """What a workflow that must fail raises."""


# --- activities -----------------------------------------------------------------------------------------------------


@activity(retry=SOON)
async def step(n: int) -> int:
    return n


@activity(retry=SOON)
def threaded(n: int) -> int:
    return n


@activity(retry=SOON, executor="process")
def elsewhere(n: int) -> int:
    return n


@activity(retry=SOON, heartbeat_timeout_s=30)
async def beating(n: int) -> int:
    for part in range(n):
        current_attempt().heartbeat(part)
        await asyncio.sleep(0.02)
    return n


@activity(retry=SOON)
async def stumble(fails: int) -> int:
    if current_attempt().number <= fails:
        raise OSError("not yet")
    return fails


@activity(retry=Retry(attempts=1))
async def refuse(key: str) -> None:
    raise Rejected(key)


@activity(retry=SOON)
async def make_large(size: int) -> str:
    return secrets.token_hex(size // 2)


@activity(retry=SOON)
async def ask_outside() -> str:
    attempt = current_attempt()
    future = tokens.get(attempt.execution_id)
    if future is not None and not future.done():
        future.set_result(attempt.token)
    attempt.finish_later()


@activity(transactional=True)
def tally(transaction: Transaction, execution: str, n: int) -> int:
    """Insert a row, remove the oldest, and give how many this execution has."""
    transaction.execute("CREATE TABLE IF NOT EXISTS tally (row INTEGER PRIMARY KEY, execution TEXT, n INTEGER)")
    transaction.execute("INSERT INTO tally (execution, n) VALUES (?, ?)", (execution, n))
    transaction.execute("DELETE FROM tally WHERE row <= (SELECT max(row) FROM tally) - ?", (TALLY_ROWS,))
    return int(transaction.execute("SELECT count(*) FROM tally WHERE execution = ?", (execution,))[0][0])


# --- workflows ------------------------------------------------------------------------------------------------------


@workflow
async def probe(n: int) -> int:
    """Take one step: what start-to-result is measured with."""
    return await step(n)


@workflow
async def pipeline(n: int) -> list[int]:
    """Take steps on the loop, in a thread and in a process, with timers in between and a readable state."""
    done = []
    for i in range(n):
        done.append(await step(i))
        state["done"] = i
        await asyncio.sleep(0.05)
    done.append(await threaded.submit(n))
    done.append(await elsewhere.submit(n + 1))
    return done


@workflow
async def family(n: int) -> int:
    """Start children at once."""
    return sum(await asyncio.gather(*(probe(i) for i in range(n))))


@workflow
async def approval(wait_s: float) -> str:
    """Wait for a signal; go on without it after a while."""
    try:
        async with asyncio.timeout(wait_s):
            return "approved" if await approved.receive() else "refused"
    except TimeoutError:
        return "late"


@workflow
async def guarded(n: int) -> None:
    """Wait to be cancelled, and clean up."""
    try:
        await asyncio.sleep(86_400)
    finally:
        await step(n)


@workflow
async def flaky(n: int) -> list[int]:
    """Run activities that fail at first."""
    return list(await asyncio.gather(*(stumble(i % 3) for i in range(n)), beating(n)))


@workflow
async def undone(n: int) -> None:
    """Fail, and undo."""
    async with Saga() as saga:
        for i in range(n):
            saga.add(step, i)
            await step(i)
        await refuse(execution_id())


@workflow
async def count_up(n: int) -> list[int]:
    """Write rows, each exactly once."""
    return [await tally.submit(execution_id(), i) for i in range(n)]


@workflow
def plainly(n: int) -> list[int]:
    """Do it all without `await`."""
    done = []
    for i in range(n):
        done.append(threaded(i))
        sleep(0.03)
    return done


@workflow
async def outside(n: int) -> str:
    """Wait for an answer from outside."""
    return await ask_outside()


@workflow
async def large(n: int) -> int:
    """Carry payloads that are stored apart."""
    return sum([len(await make_large(80_000 + 2 * i)) for i in range(n)])


@workflow
async def monitor(beats: int) -> int:
    """Run for ever: a few signals in each run."""
    for _ in range(20):
        beats += await beat.receive()
        state["beats"] = beats
    return continue_as_new(beats)


WORKFLOWS: tuple[Workflow[..., Any, Any], ...] = (
    probe, pipeline, family, approval, guarded, flaky, undone, count_up, plainly, outside, large, monitor,
)  # fmt: skip
