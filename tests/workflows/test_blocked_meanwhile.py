"""What a blocked execution does and takes meanwhile: nothing runs, nothing is lost, and others go on."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Client, Signal, Status, activity, current_attempt, state, workflow
from perdure.errors import ExecutionCancelled, ExecutionTerminated

number = Signal("number", int)


@activity
async def double(n: int) -> int:
    return 2 * n


@workflow
async def child() -> str:
    await number.receive()
    return "child"


@workflow(name="job")
async def fits() -> list[object]:
    first = await double(1)
    state["first"] = first
    async with asyncio.TaskGroup() as group:
        slept = group.create_task(asyncio.sleep(60, "slept"))
        told = group.create_task(_receive())
        ended = group.create_task(_child())
    return [first, slept.result(), told.result(), ended.result()]


async def _receive() -> list[int]:
    return [await number.receive(), await number.receive()]


async def _child() -> str:
    return await child.options(id="child")()


def _raises() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        raise ValueError("bug")

    return job


async def test_nothing_of_a_blocked_execution_runs(world):
    began, runs = asyncio.Event(), []

    @activity
    async def slow() -> str:
        runs.append(current_attempt().number)
        began.set()
        await asyncio.Event().wait()
        return "never"

    @workflow(name="job")
    async def works() -> str:
        return await slow()

    async with world.engine(works) as engine:
        await engine.start(works, id="it")
        await began.wait()
    async with world.engine(_raises()) as engine:
        await world.quiet(engine)
        assert (await engine.execution("it").info()).status is Status.BLOCKED
        assert runs == [1]
    began.clear()
    async with world.engine(works) as engine:
        await began.wait()
        assert runs == [1, 2]
        await engine.execution("it").terminate()


async def test_an_activity_that_ended_when_the_code_stopped_fitting_does_not_run_again(world):
    runs = []

    @activity
    async def once() -> int:
        runs.append(1)
        return 7

    @workflow(name="job")
    async def careless() -> int:
        n = await once()
        await asyncio.to_thread(print, n)
        return n

    @workflow(name="job")
    async def careful() -> int:
        return await once()

    async with world.engine(careless) as engine:
        execution = await engine.start(careless, id="it")
        await world.quiet(engine)
        assert (await execution.info()).status is Status.BLOCKED
    async with world.engine(careless) as engine:
        await world.quiet(engine)
        assert (await engine.execution("it").info()).status is Status.BLOCKED
    async with world.engine(careful) as engine:
        assert await engine.execution("it", careful).result() == 7
    assert runs == [1]


async def test_a_blocked_execution_can_be_cancelled_once_it_fits_and_terminated_at_once(world):
    async with world.engine(fits, child) as engine:
        for id in "a", "b":
            await engine.start(child, id=id)
        await world.quiet(engine)

    @workflow(name="child")
    async def changed() -> str:
        await asyncio.sleep(60)
        return "changed"

    async with world.engine(changed) as engine:
        await engine.execution("a").cancel("stop")
        assert (await engine.execution("a").info()).status is Status.BLOCKED
        await engine.execution("b").terminate("now")
        with pytest.raises(ExecutionTerminated, match="now"):
            await engine.execution("b").result()
    async with world.engine(child) as engine:
        with pytest.raises(ExecutionCancelled, match="stop"):
            await engine.execution("a").result()


async def test_a_completion_from_outside_waits_until_the_code_fits(world):
    tokens = []

    @activity
    async def approve() -> str:
        attempt = current_attempt()
        tokens.append(attempt.token)
        attempt.finish_later()

    @workflow(name="job")
    async def asks() -> str:
        return await approve()

    async with world.engine(asks) as engine:
        execution = await engine.start(asks, id="it")
        await world.quiet(engine)
    async with world.engine(_raises()) as engine:
        await engine.complete(tokens[0], "approved")
        assert (await engine.execution("it").info()).status is Status.BLOCKED
    async with world.engine(asks) as engine:
        execution = engine.execution("it", asks)
        assert await execution.result() == "approved"
    assert len(tokens) == 1


async def test_a_blocked_child_keeps_its_parent_waiting(world):
    def version(fixed: bool):
        @workflow(name="leaf")
        async def leaf() -> int:
            if not fixed:
                await asyncio.to_thread(print)
            return await double(4)

        @workflow(name="parent")
        async def parent() -> int:
            return await leaf()

        return parent, leaf

    bad, good = version(False), version(True)
    async with world.engine(*bad) as engine:
        execution = await engine.start(bad[0], id="it")
        await world.quiet(engine)
        assert (await execution.info()).status is Status.WAITING
        assert (await engine.counts())[Status.BLOCKED] == 1
    async with world.engine(*good) as engine:
        assert await engine.execution("it", good[0]).result() == 8


async def test_blocked_executions_do_not_hold_up_others(world):
    async with world.engine(_raises_not()) as engine:
        for n in range(20):
            await engine.start(_raises_not(), id=f"n{n}")
        await world.quiet(engine)
    async with world.engine(_raises(), child) as engine:
        for n in range(20):
            await engine.execution(f"n{n}").signal(number, n)
        other = await engine.start(child)
        await other.signal(number, 1)
        assert await other.result() == "child"
        assert (await engine.counts())[Status.BLOCKED] == 20


def _raises_not() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        await asyncio.sleep(1_000)
        return []

    return job


async def test_an_unknown_workflow_blocks_and_recovers(world):
    async with world.engine(fits, child) as engine:
        await engine.start(fits, id="it")
        await world.quiet(engine)
    async with world.engine(child) as engine:
        execution = engine.execution("it")
        await execution.signal(number, 1)
        await engine.execution("child").signal(number, 0)
        await world.jump(engine)
        info = await execution.info()
        assert info.status is Status.BLOCKED
        assert "workflow job is not known here (known: child)" in info.problem
        assert "start a worker with the code that has it" in info.problem
        await execution.signal(number, 2)
    async with world.engine(fits, child) as engine:
        assert await engine.execution("it", fits).result() == [2, "slept", [1, 2], "child"]


async def test_a_start_by_name_of_an_unknown_workflow_waits_for_its_code(world):
    async with world.engine(child):
        pass
    async with Client(world.database, now=lambda: world.now_us) as client:
        await client.start_by_name("job", {}, id="it")
        await client.execution("it").signal(number, 1)
    async with world.engine(child) as engine:
        await world.quiet(engine)
        assert (await engine.execution("it").info()).status is Status.BLOCKED
    async with world.engine(fits, child) as engine:
        await engine.execution("it").signal(number, 2)
        await world.quiet(engine)
        await engine.execution("child").signal(number, 0)
        await world.jump(engine)
        assert await engine.execution("it", fits).result() == [2, "slept", [1, 2], "child"]


async def test_signals_from_another_process_keep_their_order_when_the_first_one_blocks(world):
    def collecting(careless: bool):
        @workflow(name="job")
        async def job() -> list[int]:
            found = []
            while len(found) < 3:
                found.append(await number.receive())
                if careless:
                    await asyncio.to_thread(print)
            return found

        return job

    careless, careful = collecting(True), collecting(False)
    async with world.engine(careless) as engine:
        await engine.start(careless, id="it")
        await world.quiet(engine)
    async with Client(world.database) as client:
        for n in 1, 2, 3:
            await client.execution("it").signal(number, n)
    for _ in range(2):
        async with world.engine(careless) as engine:
            await world.quiet(engine)
            assert (await engine.execution("it").info()).status is Status.BLOCKED
    async with world.engine(careful) as engine:
        assert await engine.execution("it", careful).result() == [1, 2, 3]
