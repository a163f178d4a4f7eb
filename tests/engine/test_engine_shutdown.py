"""Leaving the block: no new work, time for what runs, everything that ended is on the disk, the lock is free."""

from __future__ import annotations

import asyncio
import signal
import threading
import time

import pytest

from perdure import Client, Engine, Retry, Signal, activity, current_attempt, workflow
from perdure.errors import EngineClosed

go = Signal("go", str)
PATIENCE_S = 20.0


async def test_a_running_activity_gets_its_grace_and_its_result_is_kept(database):
    started, release = asyncio.Event(), asyncio.Event()
    calls = []

    @activity
    async def work() -> str:
        calls.append(1)
        started.set()
        await release.wait()
        return "done"

    @workflow
    async def job() -> str:
        return await work()

    async with Engine(database, workflows=[job], grace_s=PATIENCE_S) as engine:
        await engine.start(job, id="x")
        await started.wait()
        asyncio.get_running_loop().call_later(0.05, release.set)
    async with Engine(database, workflows=[job]) as engine:
        assert await engine.execution("x", job).result() == "done"
    assert calls == [1]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_over_its_grace_an_activity_is_stopped_and_runs_again_later(database, kind):
    started = threading.Event()
    numbers, details = [], []

    def begin() -> bool:
        attempt = current_attempt()
        numbers.append(attempt.number)
        details.append(attempt.last_details)
        attempt.heartbeat("half way")
        started.set()
        return attempt.number > 1

    @activity(retry=Retry(attempts=1, interruptions=0))
    async def work_async() -> str:
        if not begin():
            await asyncio.Event().wait()
        return "done"

    @activity(retry=Retry(attempts=1, interruptions=0))
    def work_thread() -> str:
        if not begin():
            while not current_attempt().cancelled:
                threading.Event().wait(0.005)
            raise InterruptedError("told to stop")
        return "done"

    @workflow
    async def job() -> str:
        return await (work_async if kind == "async" else work_thread).submit()

    async with Engine(database, workflows=[job], grace_s=0) as engine:
        await engine.start(job, id="x")
        await asyncio.to_thread(started.wait, PATIENCE_S)
    async with Engine(database, workflows=[job]) as engine:
        assert await engine.execution("x", job).result() == "done"
    assert numbers == [1, 2]
    assert details == [None, "half way"]


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_an_activity_that_had_no_place_yet_was_not_interrupted(database, kind):
    release, started, ran = threading.Event(), threading.Event(), []

    def block() -> None:
        started.set()
        release.wait(PATIENCE_S)

    @activity
    async def first_async() -> None:
        started.set()
        await asyncio.Event().wait()

    @activity
    def first_thread() -> None:
        block()

    @activity(retry=Retry(interruptions=0))
    async def second_async() -> None:
        ran.append(1)

    @activity(retry=Retry(interruptions=0))
    def second_thread() -> None:
        ran.append(1)

    first, second = (first_async, second_async) if kind == "async" else (first_thread, second_thread)

    @workflow
    async def blocks() -> None:
        await first.submit()

    @workflow
    async def job() -> None:
        await second.submit()

    async with Engine(database, workflows=[blocks, job], max_async=1, max_threads=1, grace_s=0) as engine:
        await engine.start(blocks, id="b")
        await asyncio.to_thread(started.wait, PATIENCE_S)
        await engine.start(job, id="x")
    release.set()
    assert ran == []
    async with Engine(database, workflows=[job]) as engine:
        await engine.execution("x", job).result()
    assert ran == [1]


async def test_a_step_that_follows_during_the_grace_waits_for_the_next_engine(database):
    started, release, ran = asyncio.Event(), asyncio.Event(), []

    @activity
    async def one() -> None:
        started.set()
        await release.wait()

    @activity(retry=Retry(interruptions=0))
    async def two() -> int:
        ran.append(1)
        return len(ran)

    @workflow
    async def job() -> int:
        await one()
        return await two()

    async with Engine(database, workflows=[job], grace_s=PATIENCE_S) as engine:
        await engine.start(job, id="x")
        await started.wait()
        asyncio.get_running_loop().call_later(0.05, release.set)
    assert ran == []
    async with Engine(database, workflows=[job]) as engine:
        assert await engine.execution("x", job).result() == 1


async def test_a_closing_engine_takes_no_new_work(database):
    started, release = asyncio.Event(), asyncio.Event()

    @activity
    async def work() -> None:
        started.set()
        await release.wait()

    @workflow
    async def job() -> None:
        await work()

    engine = Engine(database, workflows=[job], grace_s=PATIENCE_S)
    async with engine:
        execution = await engine.start(job, id="x")
        await started.wait()
        closing = asyncio.create_task(engine.__aexit__(None, None, None))
        while not engine._runner.draining:
            await asyncio.sleep(0)
        with pytest.raises(EngineClosed):
            await engine.start(job, id="y")
        with pytest.raises(EngineClosed):
            await execution.signal(go, "x")
        release.set()
        await closing
        await engine.__aenter__()


INTERRUPTED = """
    import asyncio, sys
    from perdure import Engine, activity, workflow

    @activity
    async def work() -> str:
        print("started", flush=True)
        await asyncio.sleep(float(sys.argv[2]))
        print("ended", flush=True)
        return "done"

    @workflow
    async def job() -> str:
        return await work()

    async def main():
        async with Engine(sys.argv[1], workflows=[job], grace_s=float(sys.argv[3])) as engine:
            execution = await engine.start(job, id="x")
            await execution.result()

    asyncio.run(main())
"""


async def test_ctrl_c_gives_the_running_activity_its_grace_and_commits(database, spawn):
    process = spawn(INTERRUPTED, database, 0.5, 20)
    assert process.stdout.readline() == "started\n"
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert output == "ended\n", errors
    assert process.returncode != 0
    assert "KeyboardInterrupt" in errors
    assert "Task was destroyed" not in errors
    async with Client(database) as client:
        assert await client.execution("x").result() == "done"


async def test_ctrl_c_stops_what_is_over_its_grace(database, spawn):
    process = spawn(INTERRUPTED, database, 60, 0.1)
    assert process.stdout.readline() == "started\n"
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate()
    assert output == "", errors
    assert time.monotonic() - began < 15
    async with Client(database) as client:
        reasons = [e.value()["reason"] async for e in client.execution("x").history() if e.kind == "attempt_failed"]
        assert reasons == ["stopped"]


async def test_the_lock_and_the_helper_files_are_free_after_closing(database):
    @workflow
    async def job() -> int:
        return 1

    for _ in range(3):
        async with Engine(database, workflows=[job]) as engine:
            assert engine.leading
            await (await engine.start(job)).result()
    left = {path.name for path in database.parent.iterdir()}
    assert left <= {"test.db", "test.db-lock", "test.db-wal", "test.db-shm"}, "no pipes are left"


async def test_an_error_in_the_block_closes_the_engine_all_the_same(database):
    @workflow
    async def job() -> int:
        return 1

    with pytest.raises(ZeroDivisionError):
        async with Engine(database, workflows=[job]):
            raise ZeroDivisionError
    async with Engine(database, workflows=[job]) as engine:
        assert engine.leading
