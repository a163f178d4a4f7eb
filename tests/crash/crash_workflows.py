"""What the workers that are killed run: one workflow per kind of thing that must survive."""

from __future__ import annotations

import asyncio

from crash_activities import (
    ask_outside,
    async_step,
    balk,
    beat,
    exec_step,
    make_large,
    pool_step,
    slow_step,
    step,
    stumble,
    tally,
)

from perdure import Saga, Signal, continue_as_new, execution_id, random, sleep, state, uuid4, workflow

number = Signal("number", int)
note = Signal("note", str)
LAST = -1


class Rejected(Exception):
    """What a job that must fail raises."""


# --- jobs: they end by themselves -----------------------------------------------------------------------------------


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
def plain_leaf(n: int) -> str:
    return step(f"plain{n}")


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
def plainly(n: int) -> list[str]:
    """Do it all without `await`."""
    done = []
    for i in range(n):
        done.append(step(f"p{i}"))
        sleep(0.002)
    done += [call.result() for call in [async_step.submit(f"q{i}") for i in range(3)]]
    return [*done, plain_leaf(n)]


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
    texts = [await make_large.submit(f"large{i % 2}") if i < 2 else "large0" * 50_000 for i in range(n)]
    state["text"] = texts[0]
    return [len(text) for text in texts]


@workflow
async def pooled(n: int) -> list[str]:
    """Run in processes."""
    return [await pool_step.submit(f"pool{i}") for i in range(n)]


@workflow
async def shelled(n: int) -> list[str]:
    """Run programs."""
    return list(await asyncio.gather(*(exec_step.submit(f"exec{i}") for i in range(n))))


@workflow
async def beating(n: int) -> list[int]:
    """Run activities that go on from where the attempt before was."""
    return list(await asyncio.gather(*(beat.submit(f"b{i}", i + 3) for i in range(n))))


@workflow
async def in_rounds(n: int, left: int | None = None) -> int:
    """Continue as new, taking the readable state along."""
    left = n if left is None else left
    state["done"] = state.get("done", 0) + 1
    await async_step(f"round{left}")
    if left > 1:
        continue_as_new(n, left - 1)
    return state["done"]


@workflow
async def listener(n: int, to: str) -> str:
    """Answer what the parent sends."""
    for _ in range(n):
        note.send(to, (await note.receive()).upper())
    return f"heard {n}"


@workflow
async def talk(n: int) -> list[str]:
    """Exchange signals with a child."""
    child = listener.submit(n, execution_id())
    heard = []
    for i in range(n):
        note.send(f"{execution_id()}/listener-2", f"word{i}")
        heard.append(await note.receive())
    return [*heard, await child]


@workflow
async def draw(n: int) -> bool:
    """Do what differs in every execution, and the same in every replay."""
    drawn = [random().random() for _ in range(n)]
    await async_step(f"draw-{drawn[-1]}")
    ids = [str(uuid4()) for _ in range(n)]
    await asyncio.gather(*(async_step(each) for each in ids if random().random() < 0.5))
    return len(set(ids)) == n


@workflow
async def hopeful(n: int) -> list[str]:
    """Fail for good, and succeed once someone retries it."""
    return [await step.submit("before"), *[await balk.submit(f"hope{i}") for i in range(n)]]


@workflow
async def hopeful_parent(n: int) -> list[list[str]]:
    """Fail with a child, and succeed with it once someone retries it."""
    return list(await asyncio.gather(hopeful(n), hopeful(1)))


@workflow
async def overdue(n: int) -> None:
    """Run out of time, and clean up. To be started with a time limit."""
    try:
        await asyncio.sleep(1_000)
    finally:
        await async_step("too late")


@workflow
async def leaving(n: int) -> str:
    """Leave a child behind."""
    pipeline.options(on_parent_end="abandon").submit(n)
    await async_step("left")
    return "gone"


# --- they end when they are told to ---------------------------------------------------------------------------------


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
async def guarded(n: int) -> None:
    """Wait to be cancelled, and clean up."""
    try:
        await asyncio.gather(leaf(n), asyncio.sleep(1_000))
    finally:
        await async_step("cleaned")


@workflow
async def tick(n: int) -> None:
    """Take steps until cancelled: there is always something to do."""
    for i in range(50):
        await async_step(f"tick{n}-{i}")
        await asyncio.sleep(0.02)
    continue_as_new(n + 1)
