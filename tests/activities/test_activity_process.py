"""Activities in processes of their own."""

from __future__ import annotations

import os

import process_jobs as jobs
import pytest

from perdure import Engine
from perdure.errors import AttemptInterrupted, ExecutionCancelled, PayloadTooLarge


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_results_come_back_from_worker_processes(database):
    async with Engine(database, workflows=[jobs.squares], max_processes=2) as engine:
        assert await (await engine.start(jobs.squares, 6)).result() == [0, 1, 4, 9, 16, 25]


async def test_the_attempt_is_known_in_the_worker_process(database):
    async with Engine(database, workflows=[jobs.ask], max_processes=1) as engine:
        pid, execution_id, number, key = await (await engine.start(jobs.ask, id="who")).result()
    assert pid != os.getpid()
    assert (execution_id, number) == ("who", 1)
    assert key == "who:1:2"


async def test_an_error_of_the_worker_keeps_its_type_and_attributes(database):
    async with Engine(database, workflows=[jobs.rejected], max_processes=1) as engine:
        assert await (await engine.start(jobs.rejected, 42)).result() == 42


async def test_a_worker_that_dies_is_an_interruption_and_not_a_failed_attempt(database, tmp_path, failed_attempts):
    async with Engine(database, workflows=[jobs.dies_once], max_processes=1) as engine:
        execution = await engine.start(jobs.dies_once, str(tmp_path / "marker"))
        assert await execution.result() == 2
        assert [note["reason"] for note in await failed_attempts(execution)] == ["interrupted"]


async def test_an_activity_that_kills_its_worker_each_time_fails_in_the_end(database):
    async with Engine(database, workflows=[jobs.dies], max_processes=1) as engine:
        with pytest.raises(AttemptInterrupted, match="die"):
            await (await engine.start(jobs.dies)).result()


async def test_a_dying_worker_takes_no_other_with_it(database, tmp_path, until):
    started = tmp_path / "started"
    async with Engine(database, workflows=[jobs.hangs, jobs.dies, jobs.squares], max_processes=2) as engine:
        hanging = await engine.start(jobs.hangs, str(started))
        pid = int(await until(lambda: started.exists() and started.read_text()))
        with pytest.raises(AttemptInterrupted):
            await (await engine.start(jobs.dies)).result()
        assert await (await engine.start(jobs.squares, 3)).result() == [0, 1, 4]
        assert alive(pid)
        await hanging.cancel()


async def test_a_cancelled_attempt_ends_with_its_process(database, tmp_path, until):
    started = tmp_path / "started"
    async with Engine(database, workflows=[jobs.hangs, jobs.squares], max_processes=1) as engine:
        execution = await engine.start(jobs.hangs, str(started))
        pid = int(await until(lambda: started.exists() and started.read_text()))
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await execution.result()
        await until(lambda: not alive(pid))
        assert await (await engine.start(jobs.squares, 3)).result() == [0, 1, 4], "the place is free again"


async def test_an_attempt_over_its_time_ends_with_its_process(database, tmp_path, until):
    started = tmp_path / "started"
    async with Engine(database, workflows=[jobs.hangs], max_processes=1) as engine:
        assert await (await engine.start(jobs.hangs, str(started), limit_s=0.5)).result() == "timeout_s"
        if started.exists():
            await until(lambda: not alive(int(started.read_text())))


async def test_heartbeats_of_a_worker_reach_the_next_attempt(database, tmp_path):
    async with Engine(database, workflows=[jobs.resumes], max_processes=1) as engine:
        assert await (await engine.start(jobs.resumes, str(tmp_path / "started"))).result() == [1, 2, 3]


async def test_a_result_over_the_limit_is_a_clear_error(database):
    async with Engine(database, workflows=[jobs.makes_big], max_processes=1, max_payload_bytes=10_000) as engine:
        assert await (await engine.start(jobs.makes_big, 9_000)).result() == 9_000
        with pytest.raises(PayloadTooLarge, match="10,000"):
            await (await engine.start(jobs.makes_big, 10_001)).result()


async def test_closing_the_engine_ends_its_workers(database, tmp_path, until):
    started = tmp_path / "started"
    async with Engine(database, workflows=[jobs.hangs], max_processes=1, grace_s=0) as engine:
        await engine.start(jobs.hangs, str(started), id="x")
        pid = int(await until(lambda: started.exists() and started.read_text()))
    await until(lambda: not alive(pid))


async def test_an_activity_in_a_worker_can_be_completed_from_outside(database, tmp_path, until):
    path = tmp_path / "token"
    async with Engine(database, workflows=[jobs.defers], max_processes=1) as engine:
        execution = await engine.start(jobs.defers, str(path))
        await until(path.exists)
        await engine.complete(path.read_text(), "yes")
        assert await execution.result() == "yes"


async def test_a_program_without_a_main_guard_is_told_so_at_once(database, spawn):
    script = """
        import asyncio, sys
        from perdure import Engine, Retry, activity, workflow

        @activity(executor="process", retry=Retry(attempts=1))
        def work() -> int:
            return 1

        @workflow
        async def job() -> int:
            return await work.submit()

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                await (await engine.start(job)).result()

        asyncio.run(main())
    """
    _, errors = spawn(script, database).communicate(timeout=30)
    assert "a worker process could not start" in errors
    assert 'if __name__ == "__main__":' in errors
