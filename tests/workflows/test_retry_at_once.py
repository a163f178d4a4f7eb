"""Trying a failed execution again while something else reaches it, or its children, in the very same transaction."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Client, Retry, Signal, Status, activity, workflow
from perdure.errors import PerdureError

number = Signal("number", int)


class Shop:
    broken = True


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def job(shop):
    @activity(retry=Retry(attempts=1))
    async def ask() -> str:
        if shop.broken:
            raise ValueError("still broken")
        return "done"

    @workflow
    async def job() -> str:
        return await ask()

    return job


async def _fails(execution):
    with pytest.raises(ValueError, match="still broken"):
        await execution.result()


async def test_of_two_retries_at_once_one_opens_it_and_the_other_is_refused(world, shop, job):
    async with world.engine(job) as engine:
        execution = await engine.start(job, id="it")
        await _fails(execution)
        shop.broken = False
        first, second = await asyncio.gather(execution.retry(), execution.retry(), return_exceptions=True)
        assert first is None
        assert isinstance(second, PerdureError)
        assert "is running, not failed" in str(second)
        assert await execution.result(10) == "done"


async def test_retries_that_wait_in_the_file_do_not_keep_the_runner_from_its_work(world, shop, job, until):
    async with world.engine(job) as engine:
        await _fails(await engine.start(job, id="it"))
    async with Client(world.database) as client:
        for _ in range(3):
            await client.execution("it").retry()
    shop.broken = False
    async with world.engine(job) as engine:
        await until(lambda: engine.store.find("it").status is Status.COMPLETED)
        assert await (await engine.start(job, id="other")).result(10) == "done"


@workflow
async def waits() -> int:
    return await number.receive()


@pytest.mark.parametrize("child_first", [False, True])
async def test_a_child_that_was_left_behind_ends_in_the_moment_of_the_retry(world, shop, job, child_first):
    """Its parent learns of the end, or the retry is refused so that another one can find it."""

    @workflow
    async def parent() -> list[object]:
        child = waits.options(id="child", on_parent_end="abandon").submit()
        return [await job.options(id="leaf").submit(), await child]

    async with world.engine(parent, job, waits) as engine:
        execution = await engine.start(parent, id="it")
        await _fails(execution)
        shop.broken = False
        at_once = [execution.retry(), engine.execution("child").signal(number, 7)]
        results = await asyncio.gather(*(at_once[::-1] if child_first else at_once), return_exceptions=True)
        if child_first:
            assert isinstance(results[1], PerdureError)
            await execution.retry()
        assert await execution.result(10) == ["done", 7]
