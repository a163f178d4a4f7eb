"""Attempts that ran when the process died, and the code that came next did not fit."""

from __future__ import annotations

import asyncio

from perdure import Retry, activity, current_attempt, workflow
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
