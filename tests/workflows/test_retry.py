"""Trying a failed execution again from its failure."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Client, Retry, Signal, Status, activity, continue_as_new, state, workflow
from perdure.errors import ExecutionTimedOut, PerdureError

number = Signal("number", int)


class Broken(Exception):
    pass


class Shop:
    """The world outside: what is broken in it, and what was asked of it."""

    def __init__(self) -> None:
        self.broken = True
        self.asked: list[str] = []


@pytest.fixture
def shop():
    return Shop()


@pytest.fixture
def ask(shop):
    @activity(retry=Retry(attempts=2, initial_s=0.0, max_s=0.0))
    async def ask(what: str) -> str:
        shop.asked.append(what)
        if what == "broken" and shop.broken:
            raise Broken("still broken")
        return f"{what}!"

    return ask


@workflow
async def waits() -> int:
    return await number.receive()


async def _fails(execution, error=Broken, match=None) -> None:
    with pytest.raises(error, match=match):
        await execution.result()
    assert (await execution.info()).status is Status.FAILED


async def _no_gaps(execution) -> list[str]:
    events = [event async for event in execution.history()]
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    return [event.kind for event in events]


@pytest.mark.parametrize("hot", [10_000, 0])
async def test_a_failed_activity_is_tried_anew_and_what_was_done_is_not_repeated(world, shop, ask, hot):
    @workflow
    async def job() -> list[str]:
        return [await ask("first"), await ask("broken"), await ask("last")]

    async with world.engine(job, hot=hot) as engine:
        execution = await engine.start(job)
        await _fails(execution)
        await execution.retry()
        await _fails(execution)
        assert shop.asked == ["first", *["broken"] * 4]  # each time it has all its attempts
        shop.broken = False
        await execution.retry()
        assert await execution.result() == ["first!", "broken!", "last!"]
        assert shop.asked == ["first", *["broken"] * 5, "last"]
        assert (await _no_gaps(execution)).count("reopened") == 2


async def test_it_survives_a_restart_before_and_after(world, shop, ask):
    @workflow
    async def job() -> list[str]:
        first = await ask("broken")
        await asyncio.sleep(60)
        return [first, await ask("last")]

    async with world.engine(job) as engine:
        await _fails(await engine.start(job, id="it"))
    async with Client(world.database, now=lambda: world.now_us) as client:
        await client.execution("it").retry()
    shop.broken = False
    async with world.engine(job) as engine:
        await world.quiet(engine)
    async with world.engine(job) as engine:
        await world.jump(engine)
        assert await engine.execution("it", job).result() == ["broken!", "last!"]


@pytest.mark.parametrize("input", ["start", "timer", "signal", "activity"])
async def test_a_plain_bug_is_retried_with_fixed_code_from_the_input_it_failed_on(world, shop, ask, input):
    def version(fixed: bool):
        @workflow(name="job")
        async def job(input: str) -> list[object]:
            seen: list[object] = []
            match input:
                case "timer":
                    await asyncio.sleep(60)
                case "signal":
                    seen.append(await number.receive())
                case "activity":
                    seen.append(await ask("first"))
            if not fixed:
                raise ZeroDivisionError("bug")
            seen.append(await ask("second"))
            await asyncio.sleep(60)
            return seen

        return job

    bad, good = version(False), version(True)
    async with world.engine(bad) as engine:
        execution = await engine.start(bad, input, id="it")
        if input == "timer":
            await world.jump(engine)
        elif input == "signal":
            await execution.signal(number, 4)
        await _fails(execution, ZeroDivisionError)
        await execution.retry()
        await _fails(execution, ZeroDivisionError)
    async with world.engine(good) as engine:
        execution = engine.execution("it", good)
        await execution.retry()
        await world.jump(engine)
        expected = {"signal": [4], "activity": ["first!"]}.get(input, [])
        assert await execution.result() == [*expected, "second!"]
        assert shop.asked.count("first") <= 1
        await _no_gaps(execution)


async def test_the_readable_state_is_taken_back_too(world, shop, ask):
    @workflow
    async def job() -> str:
        state["kept"] = 1
        state["changed"] = "before"
        state["removed"] = True
        try:
            return await ask("broken")
        except Broken:
            state["changed"] = "after"
            state["failed"] = True
            del state["removed"]
            raise

    async with world.engine(job) as engine:
        execution = await engine.start(job)
        await _fails(execution)
        assert await execution.state() == {"kept": 1, "changed": "after", "failed": True}
        shop.broken = False
        await execution.retry()
        assert await execution.result() == "broken!"
        assert await execution.state() == {"kept": 1, "changed": "before", "removed": True}


async def test_a_timed_out_execution_goes_on_without_its_limit(world):
    @workflow
    async def job() -> int:
        try:
            return await waits.options(id="child")()
        finally:
            state["cleaned"] = True

    async with world.engine(job, waits) as engine:
        execution = await engine.start(job, id="it", timeout_s=60)
        await world.jump(engine)
        await _fails(execution, ExecutionTimedOut)
        await execution.retry()
        await world.jump(engine, 3_600)
        assert (await execution.info()).status is Status.WAITING
        await engine.execution("child").signal(number, 8)
        assert await execution.result() == 8


async def test_a_limit_that_has_not_passed_still_counts(world, shop, ask):
    @workflow
    async def job() -> int:
        await ask("broken")
        return await number.receive()

    async with world.engine(job) as engine:
        execution = await engine.start(job, id="it", timeout_s=60)
        await _fails(execution)
        shop.broken = False
        await execution.retry()
        await world.jump(engine)
        await _fails(execution, ExecutionTimedOut)


async def test_a_limit_that_was_lifted_does_not_come_back_with_the_next_run(world):
    @workflow
    async def job(first: bool) -> int:
        value = await number.receive()
        if first:
            continue_as_new(False)
        return value

    async with world.engine(job) as engine:
        execution = await engine.start(job, True, id="it", timeout_s=60)
        await world.jump(engine)
        await _fails(execution, ExecutionTimedOut)
        await execution.retry()
        await execution.signal(number, 1)
        await execution.signal(number, 2)
        assert await execution.result() == 2


async def test_what_failed_while_it_was_cancelled_is_cancelled_again(world, shop, ask):
    @workflow
    async def job() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await ask("broken")

    async with world.engine(job) as engine:
        execution = await engine.start(job)
        await execution.cancel("stop")
        await _fails(execution)
        shop.broken = False
        await execution.retry()
        await world.quiet(engine)
        assert (await execution.info()).status is Status.CANCELLED


async def test_only_failed_executions_can_be_retried(world):
    async with world.engine(waits) as engine:
        execution = await engine.start(waits)
        with pytest.raises(PerdureError, match="is waiting, not failed"):
            await execution.retry()
        await execution.signal(number, 1)
        await execution.result()
        with pytest.raises(PerdureError, match="is completed, not failed"):
            await execution.retry()
