"""Cancelling reaches the activity that runs."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from perdure import Engine, Retry, activity, current_attempt, workflow
from perdure.errors import ExecutionCancelled

PATIENCE_S = 20.0


async def test_an_async_activity_gets_cancelled_error_at_its_await(database, kinds):
    started, ended = asyncio.Event(), asyncio.Event()

    @activity
    async def slow() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()
            raise

    @workflow
    async def job() -> None:
        await slow()

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        await started.wait()
        await execution.cancel("enough")
        with pytest.raises(ExecutionCancelled, match="enough"):
            await execution.result()
        await asyncio.wait_for(ended.wait(), PATIENCE_S)
        assert (await kinds(execution))[-3:] == ["cancel_requested", "activity_cancelled", "cancelled"]


async def test_a_def_activity_sees_cancelled(database):
    started, ended = threading.Event(), threading.Event()

    @activity
    def slow() -> None:
        attempt = current_attempt()
        started.set()
        while not attempt.cancelled:
            threading.Event().wait(0.005)
        ended.set()

    @workflow
    async def job() -> None:
        await slow.submit()

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        await asyncio.to_thread(started.wait, PATIENCE_S)
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await execution.result()
        assert await asyncio.to_thread(ended.wait, PATIENCE_S)


async def test_an_activity_that_waits_for_its_retry_does_not_run_again_after_the_cancel(database, until):
    calls = []

    @activity(retry=Retry(attempts=None, initial_s=0.2, jitter=False))
    async def broken() -> None:
        calls.append(1)
        raise ConnectionError

    @workflow
    async def job() -> None:
        await broken()

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        await until(engine.store.next_due)
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await execution.result()
        assert engine.store.next_due() is None, "its timer is gone"
    assert calls == [1]


async def test_only_the_cancelled_one_of_several_ends(database):
    ended: list[str] = []
    release = asyncio.Event()

    @activity
    async def slow(name: str) -> str:
        try:
            await release.wait()
        except asyncio.CancelledError:
            ended.append(name)
            raise
        return name

    @workflow
    async def job() -> list[str]:
        calls = [slow.submit(name) for name in ("a", "b", "c")]
        await asyncio.sleep(0.01)
        calls[1].cancel()
        await trigger()
        return [await calls[0], await calls[2]]

    @activity
    async def trigger() -> None:
        release.set()

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == ["a", "c"]
    assert ended == ["b"]


async def test_what_a_cancelled_activity_still_returns_is_ignored(database, kinds):
    started, release = threading.Event(), threading.Event()

    @activity
    def stubborn() -> str:
        started.set()
        release.wait(PATIENCE_S)
        return "too late"

    @workflow
    async def job() -> str:
        call = stubborn.submit()
        await asyncio.sleep(0.02)
        call.cancel()
        await after.submit()
        return "went on"

    @activity
    def after() -> None:
        release.set()

    async with Engine(database, workflows=[job], max_threads=2) as engine:
        execution = await engine.start(job)
        assert await execution.result() == "went on"
        assert (await kinds(execution)).count("activity_completed") == 1


async def test_a_cancel_before_the_first_step_of_an_async_activity_gives_its_place_back(database):
    ran, release = [], asyncio.Event()

    @activity
    async def work(name: str) -> None:
        ran.append(name)
        if name == "first":
            await release.wait()

    @workflow
    async def job(name: str) -> None:
        await work(name)

    async with Engine(database, workflows=[job], max_async=1, grace_s=PATIENCE_S) as engine:
        await engine.start(job, "first")
        executor = engine._executor
        take_place = executor._start_here

        def take_place_and_cancel(attempt, options):
            executor._start_here = take_place
            take_place(attempt, options)
            attempt.abandon()

        executor._start_here = take_place_and_cancel
        await engine.start(job, "never")  # its turn comes when the first one ends, inside that one's task
        last = await engine.start(job, "next")
        release.set()
        await last.result(timeout_s=PATIENCE_S)
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE_S / 2, "closing waited for an attempt that nobody runs"
    assert ran == ["first", "next"]


async def test_closing_does_not_wait_for_a_cancelled_activity_that_never_got_a_thread(database):
    release, ran = threading.Event(), []

    @activity
    def block() -> None:
        release.wait(PATIENCE_S)

    @activity
    def work() -> None:
        ran.append(1)

    @workflow
    async def job() -> str:
        blocker, call = block.submit(), work.submit()
        await asyncio.sleep(0.05)
        call.cancel()
        await free()
        await blocker
        return "done"

    @activity
    async def free() -> None:
        release.set()

    async with Engine(database, workflows=[job], max_threads=1, grace_s=PATIENCE_S) as engine:
        assert await (await engine.start(job)).result() == "done"
        began = time.monotonic()
    assert time.monotonic() - began < PATIENCE_S / 2
    assert ran == []
