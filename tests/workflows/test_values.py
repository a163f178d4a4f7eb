"""now, random, uuid4, sleep and execution_id: the same after every eviction and restart, ordinary outside."""

from __future__ import annotations

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest

import perdure
from perdure import activity, continue_as_new, execution_id, now, uuid4, workflow
from perdure.errors import PerdureError


@workflow
async def draw() -> list[str]:
    drawn = []
    for _ in range(3):
        drawn.append(f"{perdure.random().random()} {perdure.random().randint(1, 1_000_000)} {uuid4()}")
        await asyncio.sleep(1)
    return drawn


async def test_random_and_uuid4_draw_the_same_after_eviction_and_restart(play):
    drawn = (await play(draw)).result
    assert len(set(drawn)) == 3


async def test_executions_and_runs_draw_differently(world):
    @workflow
    async def again(left: int) -> str:
        value = str(uuid4())
        perdure.state[f"run{left}"] = value
        if left:
            continue_as_new(left - 1)
        return value

    async with world.engine(again) as engine:
        a, b = await engine.start(again, 2, id="a"), await engine.start(again, 2, id="b")
        await a.result()
        await b.result()
        values = [*(await a.state()).values(), *(await b.state()).values()]
    assert len(set(values)) == 6
    assert all(uuid.UUID(value).version == 4 for value in values)


async def test_now_is_the_instant_of_the_last_event_and_stands_still_between(play):
    @workflow
    async def job() -> list[datetime]:
        instants = [now(), now()]
        await asyncio.sleep(60)
        return [*instants, now()]

    first, second, third = (await play(job)).result
    assert first == second
    assert third - second == timedelta(seconds=60)
    assert first.tzinfo is UTC


async def test_execution_id_names_the_execution_and_each_child(play):
    @workflow
    async def child() -> str:
        await asyncio.sleep(1)
        return execution_id()

    @workflow
    async def job() -> list[str]:
        return [execution_id(), await child(), await child.options(id="mine")()]

    assert (await play(job, also=[child])).result == ["it", "it/child-2", "mine"]


async def test_outside_an_engine_they_are_the_ordinary_ones():
    before = datetime.now(UTC)
    assert before <= now() <= datetime.now(UTC)
    assert uuid4() != uuid4()
    assert 0 <= perdure.random().random() < 1
    perdure.sleep(0)
    with pytest.raises(PerdureError, match="works in a workflow only"):
        execution_id()
    with pytest.raises(PerdureError, match="works in a workflow only"):
        perdure.state["key"] = 1


async def test_outside_an_engine_workflows_and_activities_are_the_plain_functions():
    @activity
    async def double(n: int) -> int:
        return 2 * n

    @workflow
    async def job(n: int) -> int:
        await asyncio.sleep(0)
        return await double(n)

    assert await job(4) == 8
    with pytest.raises(PerdureError, match="in a workflow only"):
        double.submit(1)
    with pytest.raises(PerdureError, match="in a workflow only"):
        job.submit(1)
