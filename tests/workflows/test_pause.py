"""Pausing: no code runs and nothing new starts, whatever arrives; all of it is there after resuming."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Client, Retry, Signal, Status, activity, state, workflow
from perdure.errors import PerdureError

number = Signal("number", int)


@activity
async def double(n: int) -> int:
    return 2 * n


@workflow
async def child() -> str:
    await number.receive()
    return "child done"


@workflow
async def mixed() -> list[object]:
    log: list[object] = []

    async def note(awaitable) -> None:
        log.append(await awaitable)
        state["log"] = log

    async with asyncio.TaskGroup() as group:
        group.create_task(note(asyncio.sleep(60, "slept")))
        group.create_task(note(number.receive()))
        group.create_task(note(child.options(id="child").submit()))
    log.append(await double(21))
    return log


async def _status(execution) -> Status:
    return (await execution.info()).status


@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
@pytest.mark.parametrize("hot", [10_000, 0], ids=["hot", "cold"])
async def test_what_arrives_while_paused_is_delivered_in_order_after_resuming(world, restart, hot):
    async with world.engine(mixed, child, hot=hot) as engine:
        execution = await engine.start(mixed, id="it")
        await execution.pause("lunch")
        assert await _status(execution) is Status.PAUSED
        await world.jump(engine)
        await execution.signal(number, 1)
        await engine.execution("child").signal(number, 2)
        await world.quiet(engine)
        assert await _status(execution) is Status.PAUSED
        assert await execution.state() == {}
        if not restart:
            await execution.resume()
            assert await execution.result() == ["slept", 1, "child done", 42]
    async with world.engine(mixed, child, hot=hot) as engine:
        execution = engine.execution("it", mixed)
        if restart:
            await world.quiet(engine)
            assert await _status(execution) is Status.PAUSED
            await execution.resume()
        assert await execution.result() == ["slept", 1, "child done", 42]
        events = [event async for event in execution.history()]
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        kinds = [event.kind for event in events]
        assert kinds.count("paused") == kinds.count("resumed") == 1
        assert kinds.count("signal_received") == kinds.count("timer_fired") == kinds.count("child_completed") == 1


@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
async def test_a_running_activity_ends_but_its_result_waits(world, restart, until):
    began, finish, runs = asyncio.Event(), asyncio.Event(), []

    @activity
    async def slow() -> str:
        runs.append(1)
        began.set()
        await finish.wait()
        return "result"

    @workflow
    async def job() -> list[object]:
        return [await slow(), await double(4)]

    async with world.engine(job) as engine:
        execution = await engine.start(job, id="it")
        await began.wait()
        await execution.pause()
        finish.set()
        await until(lambda: engine.store.parked(engine.store.find("it").num))
        assert await _status(execution) is Status.PAUSED
        if not restart:
            await execution.resume()
            assert await execution.result() == ["result", 8]
    async with world.engine(job) as engine:
        execution = engine.execution("it", job)
        if restart:
            await execution.resume()
        assert await execution.result() == ["result", 8]
    assert len(runs) == 1


async def test_an_activity_that_was_running_when_the_engine_closed_runs_after_resuming(world):
    began, finish, runs = asyncio.Event(), asyncio.Event(), []

    @activity
    async def slow() -> str:
        runs.append(1)
        began.set()
        await finish.wait()
        return "result"

    @workflow
    async def job() -> str:
        return await slow()

    async with world.engine(job) as engine:
        await (await engine.start(job, id="it")).pause()
        await began.wait()
    finish.set()
    async with world.engine(job) as engine:
        execution = engine.execution("it", job)
        await world.quiet(engine)
        assert await _status(execution) is Status.PAUSED
        assert len(runs) == 1
        await execution.resume()
        assert await execution.result() == "result"
    assert len(runs) == 2


async def test_a_retry_that_falls_due_while_paused_starts_after_resuming(world, until):
    runs = []

    @activity(retry=Retry(attempts=3, initial_s=60, jitter=False))
    async def flaky() -> int:
        runs.append(1)
        if len(runs) < 2:
            raise ConnectionError("down")
        return len(runs)

    @workflow
    async def job() -> int:
        return await flaky()

    async with world.engine(job) as engine:
        execution = await engine.start(job)
        await world.quiet(engine)
        await execution.pause()
        await world.jump(engine)
        assert len(runs) == 1
        await execution.resume()
        assert await execution.result() == 2


async def test_pause_and_resume_twice_are_harmless(world):
    async with world.engine(mixed, child) as engine:
        execution = await engine.start(mixed)
        await execution.resume()
        await execution.pause()
        await execution.pause()
        await execution.resume()
        await execution.resume()
        assert await _status(execution) is Status.WAITING
        kinds = [event.kind async for event in execution.history()]
        assert kinds.count("paused") == kinds.count("resumed") == 1
        await execution.terminate()


async def test_a_pending_execution_can_be_paused_and_resumed_from_elsewhere(world):
    async with world.engine(child):
        pass
    async with Client(world.database, now=lambda: world.now_us) as client:
        execution = await client.start(child, id="it")
        await execution.pause()
        await execution.signal(number, 1)
    async with world.engine(child) as engine:
        execution = engine.execution("it", child)
        await world.quiet(engine)
        assert await _status(execution) is Status.PAUSED
        async with Client(world.database) as client:
            await client.execution("it").resume()
        assert await execution.result() == "child done"


async def test_requests_waiting_together_for_an_engine_take_effect_once_and_in_order(world):
    @workflow
    async def job() -> list[int]:
        return [await number.receive() for _ in range(4)]

    async with world.engine(job) as engine:
        await engine.start(job, id="it")
        await engine.execution("it").pause()
        await engine.execution("it").signal(number, 1)
    async with Client(world.database, now=lambda: world.now_us) as client:
        execution = client.execution("it")
        await execution.signal(number, 2)
        await execution.resume()
        await execution.signal(number, 3)
        await execution.pause()
        await execution.signal(number, 4)
        await execution.resume()
    async with world.engine(job) as engine:
        assert await engine.execution("it", job).result() == [1, 2, 3, 4]


async def test_the_time_limit_of_a_paused_execution_takes_effect_when_it_resumes(world):
    async with world.engine(child) as engine:
        execution = await engine.start(child, timeout_s=60)
        await execution.pause()
        await world.jump(engine)
        assert await _status(execution) is Status.PAUSED
        await execution.resume()
        with pytest.raises(TimeoutError):
            await execution.result()


async def test_a_blocked_execution_is_not_paused_but_said_to_be_blocked(world):
    @workflow
    async def job() -> None:
        await asyncio.to_thread(print)

    async with world.engine(job) as engine:
        execution = await engine.start(job)
        assert await _status(execution) is Status.BLOCKED
        with pytest.raises(PerdureError, match="is blocked already"):
            await execution.pause()


async def test_a_paused_execution_whose_code_stopped_fitting_is_paused_again_when_it_fits(world):
    @workflow(name="job")
    async def fits() -> int:
        await asyncio.sleep(60)
        return await double(1)

    @workflow(name="job")
    async def differs() -> int:
        return await double(1)

    async with world.engine(fits) as engine:
        await (await engine.start(fits, id="it")).pause()
    async with world.engine(differs) as engine:
        await world.jump(engine)
        assert await _status(engine.execution("it")) is Status.BLOCKED
    async with world.engine(fits) as engine:
        execution = engine.execution("it", fits)
        await world.quiet(engine)
        assert await _status(execution) is Status.PAUSED
        await execution.resume()
        assert await execution.result() == 2
