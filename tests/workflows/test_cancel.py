"""Cancellation, termination and time limits of executions, and the cleanup that runs for them."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from perdure import Client, Signal, Status, activity, state, workflow
from perdure.errors import (
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionNotFound,
    ExecutionTerminated,
    ExecutionTimedOut,
)

go = Signal("go", int)


@activity
async def double(n: int) -> int:
    return 2 * n


@workflow
async def careful(cleanup_s: float) -> str:
    try:
        await asyncio.sleep(1_000)
    finally:
        state["cleaned"] = await double(21)
        await asyncio.sleep(cleanup_s)
        state["cleaned"] = "twice"
    return "not cancelled"


@workflow
async def waits() -> int:
    return await go.receive()


def cancel(reason=None):
    return lambda it: it.cancel(reason)


async def test_cancel_raises_at_the_await_and_says_why(play):
    @workflow
    async def job() -> None:
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError as error:
            state["seen"] = error.args[0]
            raise

    outcome = await play(job, script=[cancel("enough")])
    assert outcome.error == "ExecutionCancelled: execution it was cancelled: enough"
    assert outcome.names()[-4:] == ["cancel_requested", "timer_cancelled", "state_set", "cancelled"]


async def test_cleanup_may_await_activities_and_timers(play):
    outcome = await play(careful, 60, script=[cancel()])
    assert outcome.error == "ExecutionCancelled: execution it was cancelled"
    assert [e.data for e in outcome.histories["it"] if e.kind.name == "STATE_SET"] == ["42", '"twice"']


async def test_a_second_cancel_does_not_break_the_cleanup(play):
    outcome = await play(careful, 60, script=[cancel("first"), cancel("second"), cancel("third")])
    assert outcome.error == "ExecutionCancelled: execution it was cancelled: first"
    assert outcome.names().count("cancel_requested") == 3
    assert [e.data for e in outcome.histories["it"] if e.kind.name == "STATE_SET"] == ["42", '"twice"']


async def test_swallowing_the_cancellation_completes(play):
    @workflow
    async def job() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1_000)
        await asyncio.sleep(5)
        return "went on"

    assert (await play(job, script=[cancel()])).result == "went on"


async def test_an_error_in_the_cleanup_fails_the_execution(play):
    @workflow
    async def job() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            raise ValueError("in the cleanup")

    assert (await play(job, script=[cancel()])).error == "ValueError: in the cleanup"


@pytest.mark.parametrize("waiting_for", ["signal", "children", "group", "lock", "timeout", "shield"])
async def test_cancel_reaches_the_code_whatever_it_awaits(play, waiting_for):
    @workflow
    async def job(what: str) -> None:
        match what:
            case "signal":
                await go.receive()
            case "children":
                await asyncio.gather(waits(), waits())
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(asyncio.sleep(1_000))
                    group.create_task(waits())
            case "lock":
                lock = asyncio.Lock()
                await lock.acquire()
                await lock.acquire()
            case "timeout":
                async with asyncio.timeout(1_000):
                    await asyncio.Event().wait()
            case "shield":
                await asyncio.shield(asyncio.create_task(asyncio.sleep(1_000)))

    outcome = await play(job, waiting_for, also=[waits], script=[cancel()])
    assert outcome.error == "ExecutionCancelled: execution it was cancelled"


async def test_a_running_activity_is_told_of_the_cancellation(world, until):
    began, told = asyncio.Event(), asyncio.Event()

    @activity
    async def slow() -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.set()

    @workflow
    async def job() -> None:
        await slow()

    async with world.engine(job) as engine:
        execution = await engine.start(job)
        await began.wait()
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await execution.result()
        await asyncio.wait_for(told.wait(), 10)


async def test_cancelling_a_pending_execution_lets_its_code_begin_and_clean_up(world):
    async with world.engine(careful):
        pass
    async with Client(world.database, now=lambda: world.now_us) as client:
        execution = await client.start(careful, 5.0, id="it")
        await execution.cancel("changed my mind")
        assert (await execution.info()).status is Status.PENDING
    async with world.engine(careful) as engine:
        await world.jump(engine)
        with pytest.raises(ExecutionCancelled, match="changed my mind"):
            await engine.execution("it", careful).result()
        assert await engine.execution("it").state() == {"cleaned": "twice"}


@pytest.mark.parametrize("restart", [False, True])
async def test_cancelling_a_paused_execution_resumes_it_for_its_cleanup(world, restart):
    async with world.engine(careful) as engine:
        execution = await engine.start(careful, 5.0, id="it")
        await execution.pause()
        if not restart:
            await execution.cancel("stop")
            await world.jump(engine)
    async with world.engine(careful) as engine:
        execution = engine.execution("it", careful)
        if restart:
            await execution.cancel("stop")
            await world.jump(engine)
        with pytest.raises(ExecutionCancelled, match="stop"):
            await execution.result()
        assert await execution.state() == {"cleaned": "twice"}


async def test_what_has_ended_cannot_be_cancelled(world):
    async with world.engine(waits) as engine:
        execution = await engine.start(waits)
        await execution.signal(go, 1)
        assert await execution.result() == 1
        for request in execution.cancel, execution.terminate, execution.pause, execution.resume:
            with pytest.raises(ExecutionClosed):
                await request()
        with pytest.raises(ExecutionNotFound):
            await engine.execution("nobody").cancel()


# --- terminate ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hot", [10_000, 0])
async def test_terminate_ends_at_once_and_runs_no_cleanup(world, hot):
    async with world.engine(careful, hot=hot) as engine:
        execution = await engine.start(careful, 5.0, id="it")
        await world.quiet(engine)
        await execution.terminate("now")
        with pytest.raises(ExecutionTerminated, match="now"):
            await execution.result()
        assert await execution.state() == {}
        assert [event.kind async for event in execution.history()][-1] == "terminated"
        assert engine.store.next_due() is None


async def test_terminate_works_during_cleanup_on_paused_and_on_running_executions(world):
    began = asyncio.Event()

    @activity
    async def slow() -> None:
        began.set()
        await asyncio.Event().wait()

    @workflow
    async def runs() -> None:
        await slow()

    async with world.engine(careful, waits, runs) as engine:
        cleaning = await engine.start(careful, 100.0)
        await cleaning.cancel()
        paused = await engine.start(waits)
        await paused.pause()
        running = await engine.start(runs)
        await began.wait()
        for execution in cleaning, paused, running:
            await execution.terminate()
            with pytest.raises(ExecutionTerminated):
                await execution.result()
        assert await engine.counts() == {Status.TERMINATED: 3}


# --- time limits ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hot", [10_000, 0])
async def test_an_execution_that_takes_too_long_cleans_up_and_fails(world, hot):
    async with world.engine(careful, hot=hot) as engine:
        execution = await engine.start(careful, 5.0, timeout_s=60)
        await world.jump(engine)
        assert (await execution.info()).status is Status.WAITING  # in its cleanup
        await world.jump(engine)
        with pytest.raises(ExecutionTimedOut, match="did not end within its timeout_s"):
            await execution.result()
        assert await execution.state() == {"cleaned": "twice"}


async def test_a_time_limit_that_passes_while_no_engine_runs_counts(world):
    async with world.engine(careful) as engine:
        await engine.start(careful, 0.0, id="it", timeout_s=60)
    world.now_us += 61_000_000
    async with world.engine(careful) as engine:
        with pytest.raises(ExecutionTimedOut):
            await engine.execution("it").result()


async def test_a_time_limit_of_the_workflow_itself_applies_to_each_start(world):
    limited = waits.options(timeout_s=30)
    async with world.engine(waits) as engine:
        late, punctual = await engine.start(limited), await engine.start(limited)
        await punctual.signal(go, 1)
        await world.jump(engine)
        with pytest.raises(ExecutionTimedOut):
            await late.result()
        assert await punctual.result() == 1
        assert engine.store.next_due() is None


async def test_a_cancel_during_the_cleanup_of_a_timeout_changes_nothing(world):
    async with world.engine(careful) as engine:
        execution = await engine.start(careful, 5.0, timeout_s=60)
        await world.jump(engine)
        await execution.cancel()
        await world.jump(engine)
        with pytest.raises(ExecutionTimedOut):
            await execution.result()
        assert await execution.state() == {"cleaned": "twice"}
