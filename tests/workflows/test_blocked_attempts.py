"""Attempts that ran when the process died, and the code that came next did not fit."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Retry, activity, current_attempt, workflow
from perdure.errors import ActivityTimeout, StaleToken
from perdure.testing import Environment


@activity(retry=Retry(initial_s=1, jitter=False))
async def work() -> int:
    attempt = current_attempt()
    if attempt.number == 1:
        raise ConnectionError
    if attempt.number == 2:
        await asyncio.sleep(1_000)
    return attempt.number


@workflow(name="job")
async def job() -> int:
    return await work()


@workflow(name="job")
async def other_job() -> int:
    await asyncio.sleep(1)
    return await work()


def test_an_attempt_after_another_one_was_interrupted_though_its_execution_was_blocked_meanwhile():
    with Environment(workflows=[job], real=True) as env:
        execution = env.start(job, id="x")
        env.advance(10)
        assert [call.attempt for call in env.calls(work)] == [1, 2]
        env.crash()
        env.restart([other_job])
        assert execution.info().status == "blocked"
        env.crash()
        env.restart([job])
        assert execution.result() == 3
        assert [call.attempt for call in env.calls(work)] == [1, 2, 3]


tokens: list[str] = []


@activity(total_timeout_s=60)
async def ask_outside() -> int:
    tokens.append(current_attempt().token)
    current_attempt().finish_later()


@workflow(name="job")
async def asks() -> str:
    try:
        await ask_outside()
    except ActivityTimeout:
        return "late"
    return "in time"


async def test_an_answer_that_is_late_is_late_also_when_its_execution_was_blocked_and_is_paused(world):
    """Found by the simulation: the timer fired while no code fitted, and was set again only once it was resumed."""
    tokens.clear()
    async with world.engine(asks) as engine:
        execution = await engine.start(asks, id="x")
        await world.quiet(engine)
        await execution.pause()
    async with world.engine(other_job) as engine:
        assert (await engine.describe("x")).status == "paused"
        await engine.execution("x").signal("wake", 1)
        await world.quiet(engine)
        assert (await engine.describe("x")).status == "blocked"
        await world.jump(engine)
    async with world.engine(asks) as engine:
        await world.quiet(engine)
        assert (await engine.describe("x")).status == "paused"
        with pytest.raises(StaleToken):
            await engine.complete(tokens[0], 1)
        await engine.execution("x").resume()
        assert await engine.execution("x", asks).result(timeout_s=20) == "late"
