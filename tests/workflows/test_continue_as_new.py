"""continue_as_new: the same execution goes on with new arguments and an empty history."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Filter, Signal, Status, activity, continue_as_new, state, workflow
from perdure.errors import ExecutionTimedOut, InvalidValue

number = Signal("number", int)
stop = Signal("stop", str)


@activity
async def double(n: int) -> int:
    return 2 * n


@workflow
async def count(left: int, total: int = 0) -> int:
    total = total + await double(left)
    if left:
        continue_as_new(left - 1, total=total)
    return total


@pytest.mark.parametrize("hot", [10_000, 0])
async def test_hundreds_of_runs_end_in_one_result(world, hot):
    async with world.engine(count, hot=hot) as engine:
        execution = await engine.start(count, 300, id="it")
        assert await execution.result() == 300 * 301
        info = await execution.info()
        assert (info.run, info.status) == (301, Status.COMPLETED)
        assert info.events < 10
        assert await engine.counts() == {Status.COMPLETED: 1, Status.CONTINUED: 300}
        runs = await engine.list(Filter(id_prefix="it", limit=1_000))
        assert [info.run for info in runs] == list(range(301, 0, -1))
        assert [event.kind async for event in execution.history(run=7)][-1] == "continued"


async def test_each_run_starts_with_an_empty_history(play):
    outcome = await play(count, 3)
    assert outcome.result == 12
    assert outcome.names("it:2") == ["started", "activity_scheduled", "activity_completed", "continued"]
    assert outcome.histories["it:2"][0].data == '{"left":2,"total":6}'


async def test_signals_that_were_not_received_go_along_in_order(play):
    @workflow
    async def job(taken: list[int]) -> list[object]:
        taken = [*taken, await number.receive()]
        await asyncio.sleep(10)
        if len(taken) < 4:
            continue_as_new(taken)
        return [*taken, await stop.receive()]

    async def send(execution) -> None:
        for n in range(4):
            await execution.signal(number, n)
        await execution.signal(stop, "enough")

    assert (await play(job, [], script=[send])).result == [0, 1, 2, 3, "enough"]


async def test_what_is_open_is_cancelled_with_the_run(play):
    @workflow
    async def forever() -> None:
        await number.receive()

    @workflow
    async def job(first: bool) -> str:
        if first:
            forever.options(id="child").submit()
            asyncio.get_running_loop().call_later(50, print)
            continue_as_new(False)
        await asyncio.sleep(1)
        return "done"

    outcome = await play(job, True, also=[forever])
    assert outcome.result == "done"
    assert outcome.names("child")[-1] == "cancelled"
    assert "timer_fired" not in outcome.names()


async def test_it_works_from_inside_a_task_group_and_past_except_exception(play):
    @workflow
    async def job(left: int) -> str:
        async def again() -> None:
            await asyncio.sleep(1)
            try:
                continue_as_new(left - 1)
            except Exception:
                state["caught"] = True

        if left:
            async with asyncio.TaskGroup() as group:
                group.create_task(again())
                group.create_task(asyncio.sleep(100))
        return f"caught: {'caught' in state}"

    assert (await play(job, 2)).result == "caught: False"


async def test_the_cleanup_of_the_run_comes_first(play):
    @workflow
    async def job(first: bool) -> int:
        try:
            if first:
                continue_as_new(False)
        finally:
            state["cleaned"] = await double(4)
        return state["cleaned"]

    outcome = await play(job, True)
    assert outcome.result == 8
    assert outcome.names()[-2:] == ["state_set", "continued"]


async def test_a_result_is_awaited_through_all_runs(world):
    @workflow
    async def job(left: int) -> str:
        await number.receive()
        if left:
            continue_as_new(left - 1)
        return "done"

    async with world.engine(job) as engine:
        execution = await engine.start(job, 3, id="it")
        waiting = asyncio.create_task(execution.result())
        for n in range(4):
            assert not waiting.done()
            await execution.signal(number, n)
        assert await waiting == "done"


async def test_requests_reach_the_newest_run(world):
    async with world.engine(polls) as engine:
        execution = await engine.start(polls, 0, id="it")
        for _ in range(3):
            await world.jump(engine)
        assert (await execution.info()).run == 4
        await execution.pause()
        assert (await execution.info()).status is Status.PAUSED
        await execution.resume()
        await execution.cancel()
        await world.quiet(engine)
        assert (await execution.info()).status is Status.CANCELLED


@workflow
async def polls(n: int) -> int:
    await asyncio.sleep(60)
    continue_as_new(n + 1)


async def test_the_time_limit_counts_over_all_runs(world):
    async with world.engine(polls) as engine:
        execution = await engine.start(polls, 0, timeout_s=150)
        for _ in range(3):
            await world.jump(engine)
        with pytest.raises(ExecutionTimedOut):
            await execution.result()
        assert (await execution.info()).run == 3


async def test_starting_it_again_with_the_first_input_joins_it(world):
    async with world.engine(polls) as engine:
        await engine.start(polls, 0, id="it")
        for _ in range(2):
            await world.jump(engine)
        joined = await engine.start(polls, 0, id="it")
        assert (await joined.info()).run == 3


async def test_arguments_that_do_not_fit_fail_the_run(play):
    @workflow
    async def job(n: int) -> None:
        continue_as_new("text")

    outcome = await play(job, 1)
    assert outcome.error.startswith("InvalidValue: ")
    assert outcome.names() == ["started", "failed"]


async def test_a_rejected_argument_is_an_error_that_says_which(world):
    @workflow
    async def job(n: int) -> None:
        continue_as_new(1, 2)

    async with world.engine(job) as engine:
        with pytest.raises(InvalidValue, match="job"):
            await (await engine.start(job, 1)).result()
