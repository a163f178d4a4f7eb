"""The four time limits of an activity, and what becomes of an attempt that ran into one."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure import Engine, Retry, activity, current_attempt, workflow
from perdure.errors import ActivityTimeout

ONCE = Retry(attempts=1)
TWICE = Retry(attempts=2, initial_s=0)
FOREVER_S = 60.0


async def forever() -> None:
    await asyncio.Event().wait()


async def test_an_async_attempt_over_its_time_is_cancelled(database):
    ended = []

    @activity(retry=ONCE, timeout_s=0.05)
    async def slow() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    @workflow
    async def job() -> str:
        try:
            await slow()
        except TimeoutError as error:  # ActivityTimeout is one
            return str(getattr(error, "limit", "another error"))
        return ""

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == "timeout_s"
    assert ended == ["cancelled"]


async def test_a_thread_over_its_time_sees_that_it_should_stop(database):
    told = threading.Event()

    @activity(retry=ONCE, timeout_s=0.05)
    def slow() -> None:
        attempt = current_attempt()
        pause = threading.Event()
        while not attempt.cancelled:
            pause.wait(0.005)
        told.set()

    @workflow
    async def job() -> None:
        await slow.submit()

    async with Engine(database, workflows=[job]) as engine:
        with pytest.raises(ActivityTimeout, match=r"slow .attempt 1. ran into timeout_s=0.05"):
            await (await engine.start(job)).result()
        assert await asyncio.to_thread(told.wait, FOREVER_S)


async def test_an_attempt_over_its_time_is_tried_again(database, failed_attempts):
    @activity(retry=TWICE, timeout_s=0.05)
    async def slow_once() -> int:
        if current_attempt().number == 1:
            await forever()
        return current_attempt().number

    @workflow
    async def job() -> int:
        return await slow_once()

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        assert await execution.result() == 2
        (note,) = await failed_attempts(execution)
        assert note["error"]["type"] == "perdure.errors:ActivityTimeout"


async def test_a_thread_that_outlives_its_limit_does_not_disturb_the_next_attempt(database):
    """The first attempt ignores its end and returns while the second runs: nobody may take that for the second's."""
    second_runs, first_ended, seen = threading.Event(), threading.Event(), []

    @activity(retry=TWICE, timeout_s=0.2)
    def slow() -> str:
        attempt = current_attempt()
        if attempt.number == 1:
            second_runs.wait(FOREVER_S)
            seen.append((attempt.number, attempt.cancelled))
            first_ended.set()
            return "late"
        second_runs.set()
        first_ended.wait(FOREVER_S)
        while not attempt.cancelled:
            threading.Event().wait(0.005)
        return "never in time"

    @workflow
    async def job() -> str:
        return await slow.submit()

    async with Engine(database, workflows=[job], max_threads=2) as engine:
        with pytest.raises(ActivityTimeout, match="attempt 2"):
            await (await engine.start(job)).result(timeout_s=10)
    assert seen == [(1, True)]


async def test_the_total_time_covers_all_attempts_and_waits(database):
    @activity(retry=Retry(attempts=None, initial_s=0, jitter=False), timeout_s=0.05, total_timeout_s=0.3)
    async def slow() -> None:
        await forever()

    @workflow
    async def job() -> str:
        try:
            await slow()
        except ActivityTimeout as error:
            return error.limit
        return ""

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        assert await execution.result() in ("total_timeout_s", "timeout_s")
        times = [event.at async for event in execution.history() if event.kind in ("started", "activity_failed")]
        assert 0.2 < (times[1] - times[0]).total_seconds() < 5


@pytest.mark.parametrize("kind", ["async", "thread"])
@pytest.mark.parametrize("limit", ["start_timeout_s", "total_timeout_s"])
async def test_an_activity_that_waits_for_a_place_can_run_out_of_time(database, kind, limit):
    release, ran = threading.Event(), []

    @activity
    def block_thread() -> None:
        release.wait(FOREVER_S)

    @activity
    async def block_async() -> None:
        await asyncio.to_thread(release.wait, FOREVER_S)

    @activity
    def late_thread() -> None:
        ran.append(current_attempt().activity)

    @activity
    async def late_async() -> None:
        ran.append(current_attempt().activity)

    block, late = (block_thread, late_thread) if kind == "thread" else (block_async, late_async)

    @workflow
    async def job() -> str:
        blocker = block.submit()
        await asyncio.sleep(0)
        try:
            await late.options(**{limit: 0.1}).submit()
        except ActivityTimeout as error:
            release.set()
            await blocker
            await late.submit()  # the place is free again; the one that ran out of time must not take it
            return error.limit
        return "no timeout"

    async with Engine(database, workflows=[job], max_threads=1, max_async=1) as engine:
        assert await (await engine.start(job)).result(timeout_s=10) == limit
    assert len(ran) == 1


async def test_without_heartbeats_an_attempt_runs_into_its_heartbeat_limit(database):
    @activity(retry=ONCE, heartbeat_timeout_s=0.05)
    async def silent() -> None:
        await forever()

    @workflow
    async def job() -> None:
        await silent()

    async with Engine(database, workflows=[job]) as engine:
        with pytest.raises(ActivityTimeout, match=r"heartbeat_timeout_s=0\.05"):
            await (await engine.start(job)).result()


async def test_heartbeats_keep_a_thread_going(database):
    @activity(retry=ONCE, heartbeat_timeout_s=0.3)
    def lively() -> str:
        attempt = current_attempt()
        for step in range(20):
            attempt.heartbeat(step)
            threading.Event().wait(0.03)
        return "done"

    @workflow
    async def job() -> str:
        return await lively.submit()

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == "done"


async def test_a_limit_that_the_call_gives_overrides_that_of_the_activity(database):
    @activity(retry=ONCE, timeout_s=FOREVER_S)
    async def slow() -> None:
        await forever()

    @workflow
    async def job() -> None:
        await slow.options(timeout_s=0.05).submit()

    async with Engine(database, workflows=[job]) as engine:
        with pytest.raises(ActivityTimeout, match=r"timeout_s=0\.05"):
            await (await engine.start(job)).result()


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_the_limit_for_starting_does_not_end_an_attempt_that_has_started(database, kind):
    @activity(retry=ONCE, start_timeout_s=0.1)
    async def long_async() -> str:
        await asyncio.to_thread(threading.Event().wait, 0.3)
        return "done"

    @activity(retry=ONCE, start_timeout_s=0.1)
    def long_thread() -> str:
        threading.Event().wait(0.3)
        return "done"

    @workflow
    async def job() -> str:
        return await (long_async if kind == "async" else long_thread).submit()

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == "done"
