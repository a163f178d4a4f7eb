"""Trying a failed execution again that had children, timers and signals open when it failed."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from perdure import Retry, Signal, Status, activity, workflow
from perdure.errors import PerdureError

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


async def test_a_failed_child_is_reopened_with_its_parent(world, shop, ask):
    @workflow
    async def leaf() -> list[str]:
        return [await ask("leaf"), await ask("broken")]

    @workflow
    async def middle() -> list[str]:
        return await leaf.options(id="leaf")()

    @workflow
    async def job() -> list[object]:
        return [await ask("first"), await middle.options(id="middle")()]

    async with world.engine(job, middle, leaf) as engine:
        execution = await engine.start(job, id="it")
        await _fails(execution)
        shop.broken = False
        await execution.retry()
        assert await execution.result() == ["first!", ["leaf!", "broken!"]]
        assert shop.asked.count("first") == shop.asked.count("leaf") == 1
        assert await engine.counts() == {Status.COMPLETED: 3}
        for id in "it", "middle", "leaf":
            await _no_gaps(engine.execution(id))


@pytest.mark.parametrize("form", ["gather", "group"])
@pytest.mark.parametrize("restart", [False, True], ids=["", "restart"])
async def test_children_and_timers_that_were_open_at_the_failure_go_on(world, shop, ask, form, restart):
    @workflow
    async def sibling() -> list[object]:
        try:
            await asyncio.sleep(60)
            return [await ask("sibling"), await number.receive()]
        finally:
            await ask("cleanup")

    @workflow
    async def failing() -> str:
        await asyncio.sleep(10)
        return await ask("broken")

    @workflow
    async def job(form: str) -> list[object]:
        parts = [failing.options(id="failing").submit(), sibling.options(id="sibling").submit()]
        if form == "gather":
            return list(await asyncio.gather(*parts, asyncio.sleep(90, "slept")))

        async def wait(awaitable) -> object:
            return await awaitable

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(wait(part)) for part in (*parts, asyncio.sleep(90, "slept"))]
        return [task.result() for task in tasks]

    known = [job, sibling, failing]
    error = Broken if form == "gather" else ExceptionGroup
    async with world.engine(*known) as engine:
        execution = await engine.start(job, form, id="it")
        await world.jump(engine)
        await _fails(execution, error)
        await world.quiet(engine)
        assert (await engine.execution("sibling").info()).status is Status.CANCELLED
        if not restart:
            shop.broken = False
            await execution.retry()
            await world.quiet(engine)
    async with world.engine(*known) as engine:
        execution = engine.execution("it", job)
        if restart:
            shop.broken = False
            await execution.retry()
        await world.jump(engine)  # the sibling's timer
        await engine.execution("sibling").signal(number, 7)
        await world.jump(engine)  # the parent's own
        assert await execution.result() == ["broken!", ["sibling!", 7], "slept"]
        assert await engine.counts() == {Status.COMPLETED: 3}
        for id in "it", "sibling", "failing":
            await _no_gaps(engine.execution(id))


async def test_signals_that_came_after_the_failure_are_not_lost(world, shop, ask):
    @workflow
    async def slow_to_stop() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(60)

    @workflow
    async def job() -> list[object]:
        async def wait_for_child() -> None:
            await slow_to_stop.options(id="slow")()

        async def ask_for_it() -> str:
            return await ask("broken")

        async with asyncio.TaskGroup() as group:
            task = group.create_task(ask_for_it())
            group.create_task(wait_for_child())
        return [task.result(), await number.receive()]

    async with world.engine(job, slow_to_stop) as engine:
        execution = await engine.start(job, id="it")
        await world.quiet(engine)
        assert (await execution.info()).status is Status.WAITING  # until the child has cleaned up
        await execution.signal(number, 5)
        await world.jump(engine)
        await _fails(execution, ExceptionGroup)
        shop.broken = False
        await execution.retry()
        await world.jump(engine)  # the child sleeps again: it was taken back to before its cancellation
        await world.jump(engine)
        assert await execution.result() == ["broken!", 5]


async def test_retrying_waits_for_children_that_still_clean_up(world, shop, ask):
    @workflow
    async def slow_to_stop() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(60)

    @workflow
    async def job() -> str:
        slow_to_stop.options(id="slow").submit()
        return await ask("broken")

    async with world.engine(job, slow_to_stop) as engine:
        execution = await engine.start(job, id="it")
        await _fails(execution)
        with pytest.raises(PerdureError, match="its child slow is still being cancelled"):
            await execution.retry()
        await world.jump(engine)
        shop.broken = False
        await execution.retry()
        assert await execution.result() == "broken!"


async def test_a_child_that_ended_between_failure_and_retry_gives_its_result(world, shop, ask):
    @workflow
    async def stubborn() -> str:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(1_000)
        return "done all the same"

    @workflow
    async def job() -> list[object]:
        call = stubborn.options(id="child").submit()
        abandoned = waits.options(id="abandoned", on_parent_end="abandon").submit()
        return [await ask("broken"), await call, await abandoned]

    async with world.engine(job, stubborn, waits) as engine:
        execution = await engine.start(job, id="it")
        await _fails(execution)
        await engine.execution("abandoned").signal(number, 3)
        await world.quiet(engine)
        shop.broken = False
        await execution.retry()
        assert await execution.result() == ["broken!", "done all the same", 3]


async def test_a_child_started_by_the_failed_step_can_take_its_id_again(world):
    def version(fixed: bool):
        @workflow(name="job")
        async def job() -> int:
            await asyncio.sleep(60)
            call = waits.options(id="child").submit()
            if not fixed:
                raise ZeroDivisionError("bug")
            return await call

        return job

    bad, good = version(False), version(True)
    async with world.engine(bad, waits) as engine:
        execution = await engine.start(bad, id="it")
        await world.jump(engine)
        await _fails(execution, ZeroDivisionError)
    async with world.engine(good, waits) as engine:
        execution = engine.execution("it", good)
        await execution.retry()
        await world.quiet(engine)
        await engine.execution("child").signal(number, 6)
        assert await execution.result() == 6


async def test_a_terminated_child_fails_the_parent_again_unless_its_code_changed(world):
    def version(fixed: bool):
        @workflow(name="job")
        async def job() -> str:
            try:
                await waits.options(id="child")()
            except PerdureError:
                if not fixed:
                    raise
            return "went on"

        return job

    bad, good = version(False), version(True)
    async with world.engine(bad, waits) as engine:
        execution = await engine.start(bad, id="it")
        await world.quiet(engine)
        await engine.execution("child").terminate()
        await _fails(execution, PerdureError)
        await execution.retry()
        await _fails(execution, PerdureError)
    async with world.engine(good, waits) as engine:
        await engine.execution("it").retry()
        assert await engine.execution("it", good).result() == "went on"


async def test_a_cancelled_child_is_reopened_with_the_parent_that_failed_of_it(world):
    @workflow
    async def job() -> int:
        return await waits.options(id="child")()

    async with world.engine(job, waits) as engine:
        execution = await engine.start(job, id="it")
        await world.quiet(engine)
        await engine.execution("child").cancel()
        await _fails(execution, PerdureError)
        await execution.retry()
        await world.quiet(engine)
        await engine.execution("child").signal(number, 9)
        assert await execution.result() == 9


async def test_a_retry_where_the_code_is_not_known_keeps_the_timers_for_the_engine_that_knows_it(world, shop, ask):
    @workflow
    async def job() -> list[str]:
        slept = asyncio.create_task(asyncio.sleep(90, "slept"))
        return [await ask("broken"), await slept]

    async with world.engine(job) as engine:
        await _fails(await engine.start(job, id="it"))
    shop.broken = False
    async with world.engine(waits) as engine:
        await engine.execution("it").retry()
        await world.quiet(engine)
        assert (await engine.execution("it").info()).status is Status.BLOCKED
    async with world.engine(job) as engine:
        await world.jump(engine)
        assert await engine.execution("it", job).result() == ["broken!", "slept"]
