"""What was under way when an engine closed goes on in the next, whatever is due first."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Client, Signal, activity, workflow

number = Signal("number", int)


@pytest.mark.parametrize("first", ["timer", "signal", "child"])
async def test_an_interrupted_activity_runs_again_although_something_else_reaches_the_execution_first(world, first):
    began, finish, runs = asyncio.Event(), asyncio.Event(), []

    @activity
    async def slow() -> str:
        runs.append(1)
        began.set()
        await finish.wait()
        return "slow"

    @workflow
    async def child() -> str:
        await number.receive()
        return "child"

    @workflow
    async def job() -> list[object]:
        others = {"timer": asyncio.sleep, "signal": number.receive, "child": child.options(id="child").submit}
        other = others[first](60) if first == "timer" else others[first]()
        return list(await asyncio.gather(slow(), other))

    async with world.engine(job, child) as engine:
        await engine.start(job, id="it")
        await began.wait()
    finish.set()
    world.now_us += 60_000_000
    if first != "timer":
        async with Client(world.database, now=lambda: world.now_us) as client:
            await client.execution("it" if first == "signal" else "child").signal(number, 5)
    async with world.engine(job, child) as engine:
        result = await engine.execution("it", job).result(20)
        assert result == ["slow", {"timer": None, "signal": 5, "child": "child"}[first]]
    assert len(runs) == 2


async def test_a_waiting_execution_is_taken_up_by_its_timer(world):
    @workflow
    async def job(n: int) -> int:
        await asyncio.sleep(60 * n)
        return n

    async with world.engine(job) as engine:
        for n in range(1, 6):
            await engine.start(job, n, id=f"n{n}")
    world.now_us += 3_600_000_000
    async with world.engine(job) as engine:
        assert [await engine.execution(f"n{n}", job).result() for n in range(1, 6)] == [1, 2, 3, 4, 5]
