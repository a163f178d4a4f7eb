"""patched: changed code lives beside executions that began before the change."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Signal, activity, patched, workflow

number = Signal("number", int)


@activity
async def step(name: str) -> str:
    return name


@workflow(name="job")
async def original() -> list[str]:
    seen = [await step("a")]
    await asyncio.sleep(60)
    seen.append(await step("b"))
    await asyncio.sleep(60)
    return [*seen, await step("c")]


@workflow(name="job")
async def changed() -> list[str]:
    seen = [await step("a2" if patched("a") else "a")]
    await asyncio.sleep(60)
    if patched("b"):
        seen.append(await step("b2"))
    else:
        seen.append(await step("b"))
    await asyncio.sleep(60)
    return [*seen, await step("c2" if patched("c") else "c")]


async def test_executions_keep_the_path_of_what_they_went_past_and_new_ones_take_the_new(world):
    async with world.engine(original) as engine:
        await engine.start(original, id="before a sleep")
        await world.quiet(engine)
    async with world.engine(changed) as engine:
        await engine.start(changed, id="new")
        await world.jump(engine)
        await world.jump(engine)
        assert await engine.execution("before a sleep", changed).result() == ["a", "b2", "c2"]
        assert await engine.execution("new", changed).result() == ["a2", "b2", "c2"]


async def test_the_choice_survives_eviction_and_restart(play):
    outcome = await play(changed)
    assert outcome.result == ["a2", "b2", "c2"]
    assert [e.name for e in outcome.histories["it"] if e.kind.name == "PATCHED"] == ["a", "b", "c"]


@pytest.mark.parametrize("hot", [10_000, 0])
async def test_the_first_answer_holds_for_the_whole_run(world, hot):
    @workflow(name="loop")
    async def before() -> list[int]:
        return [await number.receive() for _ in range(3)]

    @workflow(name="loop")
    async def after() -> list[int]:
        taken = []
        for _ in range(3):
            value = await number.receive()
            taken.append(value * 100 if patched("hundredfold") else value)
        return taken

    async with world.engine(before, hot=hot) as engine:
        await engine.start(before, id="old")
        await engine.execution("old").signal(number, 1)
    async with world.engine(after, hot=hot) as engine:
        await engine.start(after, id="new")
        for n in 1, 2, 3:
            if n > 1:
                await engine.execution("old").signal(number, n)
            await engine.execution("new").signal(number, n)
        assert await engine.execution("old", after).result() == [1, 2, 3]
        assert await engine.execution("new", after).result() == [100, 200, 300]


async def test_several_patches_in_one_step_and_in_tasks_replay(play):
    @workflow
    async def job() -> list[str]:
        async def part(name: str) -> str:
            await asyncio.sleep(1)
            return await step(f"{name}2" if patched(name) else name)

        first = "x" if patched("x") and patched("y") and patched("x") else "old"
        return [first, *await asyncio.gather(part("a"), part("b"))]

    assert (await play(job)).result == ["x", "a2", "b2"]


async def test_outside_an_engine_it_is_the_new_code():
    assert patched("anything")


async def test_the_call_can_be_taken_out_once_the_old_path_is_not_needed(world):
    @workflow(name="job")
    async def cleaned() -> list[str]:
        seen = [await step("a2")]
        await asyncio.sleep(60)
        seen.append(await step("b2"))
        await asyncio.sleep(60)
        return [*seen, await step("c2")]

    async with world.engine(changed) as engine:
        await engine.start(changed, id="it")
        await world.jump(engine)
    async with world.engine(cleaned) as engine:
        await world.jump(engine)
        assert await engine.execution("it", cleaned).result() == ["a2", "b2", "c2"]


async def test_a_marker_passed_over_still_answers_a_later_call(world):
    @workflow(name="two")
    async def both() -> list[bool]:
        first, second = patched("first"), patched("second")
        await asyncio.sleep(60)
        return [first, second]

    @workflow(name="two")
    async def swapped() -> list[bool]:
        second, first = patched("second"), patched("first")
        await asyncio.sleep(60)
        return [first, second]

    async with world.engine(both) as engine:
        await engine.start(both, id="it")
        await world.quiet(engine)
    async with world.engine(swapped) as engine:
        await world.jump(engine)
        assert await engine.execution("it", swapped).result() == [True, True]
