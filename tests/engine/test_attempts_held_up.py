"""Attempts in an execution that was paused, or that was opened again after it had failed."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Engine, Retry, Status, activity, current_attempt, workflow
from perdure.errors import StaleToken
from perdure.events import Kind


def test_an_activity_that_begins_after_a_retry_counts_the_deaths_of_its_process(database, spawn):
    """Found by the torture: an attempt ran again under its old number."""
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, current_attempt, workflow

        how = sys.argv[2]

        @activity(retry=Retry(attempts=1))
        async def fails_first() -> None:
            if how == "fails":
                raise ValueError

        @activity(retry=Retry(initial_s=0.001, max_s=0.001, interruptions=2))
        async def kills() -> None:
            print(current_attempt().number, flush=True)
            os._exit(9)

        @workflow
        async def job() -> None:
            await fails_first()
            await kills()

        async def main():
            async with Engine(sys.argv[1], workflows=[job], grace_s=0) as engine:
                execution = await engine.start(job, id="x")
                if how == "retry":
                    await execution.retry()
                try:
                    await execution.result()
                except Exception as error:
                    print(type(error).__name__, flush=True)

        asyncio.run(main())
    """
    said = [spawn(script, database, how).communicate()[0].split() for how in ("fails", "retry", *["dies"] * 3)]
    assert said == [["ValueError"], ["1"], ["2"], ["3"], ["AttemptInterrupted"]]


async def test_an_attempt_that_falls_due_in_the_moment_of_a_pause_did_not_die(database, until):
    """Found by the torture: it was about to start, and counted as interrupted."""
    clock_us = 1_800_000_000_000_000
    numbers: list[int] = []

    @activity(retry=Retry(initial_s=60, jitter=False))
    async def fails_once() -> str:
        numbers.append(current_attempt().number)
        if len(numbers) == 1:
            raise ValueError("no")
        return "done"

    @workflow
    async def job() -> str:
        return await fails_once()

    async with Engine(database, workflows=[job], now=lambda: clock_us, hot=0) as engine:
        execution = await engine.start(job, id="x")
        await until(lambda: engine.store.next_due() and engine._runner and not engine._runner.memory.lives)
        clock_us += 3_600_000_000
        await asyncio.gather(execution.pause(), execution.resume())
        assert await execution.result(10) == "done"
        notes = [event.data for event in engine.store.history(1) if event.kind is Kind.ATTEMPT_FAILED]
    assert numbers == [1, 2]
    assert len(notes) == 1


async def test_an_activity_of_a_paused_execution_is_completed_once(database, until):
    """Found by the torture: evicted and loaded again, it had forgotten that its end waits in the inbox."""
    tokens: list[str] = []

    @activity
    async def asks() -> int:
        tokens.append(current_attempt().token)
        current_attempt().finish_later()

    @workflow
    async def job() -> int:
        return await asks()

    async with Engine(database, workflows=[job], hot=0) as engine:
        execution = await engine.start(job, id="x")
        await until(lambda: tokens and engine.store.find("x").status is Status.WAITING)
        await execution.pause()
        await engine.complete(tokens[0], 1)
        await until(lambda: engine._runner and not engine._runner.memory.lives)
        with pytest.raises(StaleToken):
            await engine.complete(tokens[0], 2)
        await execution.resume()
        assert await execution.result(10) == 1
        kinds = [event.kind for event in engine.store.history(1)]
    assert kinds.count(Kind.ACTIVITY_COMPLETED) == 1
