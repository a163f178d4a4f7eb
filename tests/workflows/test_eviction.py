"""Eviction: code that is dropped from memory does nothing durable, whatever it does about that."""

from __future__ import annotations

import asyncio

import pytest

from perdure import activity, sleep, workflow

ran: list[str] = []


@activity
async def note(what: str) -> None:
    ran.append(what)


@workflow
async def swallows_everything() -> int:
    turns = 0
    while True:
        try:
            await asyncio.sleep(100)
            turns += 1
            if turns == 2:
                return turns
        except:  # noqa: E722  # that is the point
            pass


@workflow
async def cleans_up_in_a_loop() -> int:
    turns = 0
    while True:
        try:
            await asyncio.sleep(100)
            turns += 1
            if turns == 2:
                return turns
        except BaseException:
            await note("cleanup")


@workflow
def plain_one() -> int:
    turns = 0
    while True:
        try:
            sleep(100)
            turns += 1
            if turns == 2:
                return turns
        except:  # noqa: E722  # that is the point
            pass


@pytest.mark.timeout(60)
@pytest.mark.parametrize("stubborn", [swallows_everything, cleans_up_in_a_loop, plain_one], ids=lambda wf: wf.name)
async def test_code_that_swallows_its_eviction_does_not_hang_the_runner(world, stubborn):
    ran.clear()
    async with world.engine(stubborn, hot=0) as engine:
        execution = await engine.start(stubborn, id="it")
        await world.quiet(engine)
        await world.jump(engine)
        await world.jump(engine)
        assert await execution.result() == 2
    assert ran == []
