"""Code that does not fit a history blocks the execution, untouched, until code that fits is running."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging

import pytest

from perdure import Client, Signal, Status, activity, random, state, workflow
from perdure.errors import NonDeterminismError
from perdure.replay import Run

number = Signal("number", int)


@activity
async def double(n: int) -> int:
    return 2 * n


@activity
async def triple(n: int) -> int:
    return 3 * n


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


def _reordered() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        state["first"] = 2
        return [await double(1)]

    return job


def _other_activity() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        return [await triple(1)]

    return job


def _other_argument() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        return [await double(2)]

    return job


def _command_left_out() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        await double(1)
        await number.receive()
        return []

    return job


def _ends_too_early() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        return [await double(1)]

    return job


def _raises() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        raise ValueError("bug")

    return job


def _swallows_the_mismatch() -> object:
    @workflow(name="job")
    async def job() -> list[object]:
        with contextlib.suppress(BaseException):
            await triple(1)
        return [await double(1)]

    return job


def _other_signature() -> object:
    @workflow(name="job")
    async def job(n: int) -> list[object]:
        return [await double(n)]

    return job


CHANGES = {
    _reordered: ("#2 activity_scheduled double", "#2 state_set first 2"),
    _other_activity: ('#2 activity_scheduled double {"n":1}', '#2 activity_scheduled triple {"n":1}'),
    _other_argument: ('#2 activity_scheduled double {"n":1}', '#2 activity_scheduled double {"n":2}'),
    _command_left_out: ("#4 state_set first 2", "no command"),
    _ends_too_early: ("#4 state_set first 2", "#4 completed [2]"),
    _raises: ('#2 activity_scheduled double {"n":1}', "#2 failed"),
    _swallows_the_mismatch: ('#2 activity_scheduled double {"n":1}', '#2 activity_scheduled triple {"n":1}'),
    _other_signature: ("a value that fits the code's annotation", "#1 started job {}"),
}


async def _history(execution) -> list[tuple[object, ...]]:
    return [(e.seq, e.kind, e.ref, e.name, e.data, e.at) async for e in execution.history()]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
async def test_a_change_that_does_not_fit_blocks_and_what_came_meanwhile_is_delivered_later(world, change, caplog):
    async with world.engine(fits, child) as engine:
        execution = await engine.start(fits, id="it")
        await world.quiet(engine)
        before = await _history(execution)

    with caplog.at_level(logging.ERROR, "perdure"):
        async with world.engine(change(), child) as engine:
            execution = engine.execution("it")
            await execution.signal(number, 1)
            await engine.execution("child").signal(number, 0)
            await world.jump(engine)
            info = await execution.info()
            assert info.status is Status.BLOCKED
            expected, got = CHANGES[change]
            assert f"expected {expected}" in info.problem
            assert f"got      {got}" in info.problem
            assert "execution it (workflow job) does not fit its history at event #" in info.problem
            assert 'patched("…")' in info.problem or "give a new parameter a default" in info.problem
            assert await _history(execution) == before
            assert await execution.state() == {"first": 2}
    assert "execution it is blocked" in caplog.text

    async with Client(world.database, now=lambda: world.now_us) as client:
        await client.execution("it").signal(number, 2)
    async with world.engine(fits, child) as engine:
        execution = engine.execution("it", fits)
        assert await execution.result() == [2, "slept", [1, 2], "child"]
        after = await _history(execution)
        assert after[: len(before)] == before
        assert [event[0] for event in after] == list(range(1, len(after) + 1))
        assert (await execution.info()).problem is None


def _waits_elsewhere() -> object:
    async def helper() -> None:
        await number.receive()  # it waits here

    @workflow(name="job")
    async def job() -> list[object]:
        await double(1)
        await helper()
        return []

    return job


def _waits_elsewhere_without_async() -> object:
    @workflow(name="job")
    def job() -> list[object]:
        double.submit(1).result()
        number.receive().result()  # it waits here
        return []

    return job


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (_other_activity, "await triple(1)"),
        (_raises, 'raise ValueError("bug")'),
        (_ends_too_early, '@workflow(name="job")'),
        (_waits_elsewhere, "# it waits here"),
        (_waits_elsewhere_without_async, "# it waits here"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
async def test_the_problem_names_the_line(world, change, text):
    async with world.engine(fits, child) as engine:
        await engine.start(fits, id="it")
        await world.quiet(engine)
    lines, start = inspect.getsourcelines(change)
    line = start + next(n for n, source in enumerate(lines) if text in source)
    async with world.engine(change(), child) as engine:
        await engine.execution("it").signal(number, 1)
        assert f"at       {__file__}:{line} in " in (await engine.execution("it").info()).problem


async def test_code_that_is_not_deterministic_is_found_on_replay(world):
    draws = iter(range(1, 100))

    @workflow
    async def job() -> int:
        await double(next(draws))
        await asyncio.sleep(60)
        return 1

    @workflow(name="job")
    async def repaired() -> int:
        await double(1)
        await asyncio.sleep(60)
        return random().randint(5, 5)

    async with world.engine(job, hot=0) as engine:
        execution = await engine.start(job, id="it")
        await world.jump(engine)
        info = await execution.info()
        assert info.status is Status.BLOCKED
        assert 'expected #2 activity_scheduled double {"n":1}' in info.problem
    async with world.engine(repaired) as engine:
        assert await engine.execution("it", repaired).result() == 5


async def test_a_changed_value_that_means_the_same_fits(world):
    def version(changed: bool):
        @activity(name="greet")
        async def greet_before(name: str) -> str:
            return f"hello {name}"

        @activity(name="greet")
        async def greet_after(name: str, polite: bool = False) -> str:
            return f"dear {name}"

        greet = greet_after if changed else greet_before

        @workflow(name="job")
        async def job() -> list[str]:
            first = await greet("ann")
            await asyncio.sleep(60)
            return [first, await greet("bob")]

        return job

    old, new = version(False), version(True)
    async with world.engine(old) as engine:
        await engine.start(old, id="it")
        await world.quiet(engine)
    async with world.engine(new) as engine:
        await world.jump(engine)
        assert await engine.execution("it", new).result() == ["hello ann", "dear bob"]


async def test_a_mismatch_has_its_parts_as_attributes(world):
    async with world.engine(fits, child) as engine:
        execution = await engine.start(fits, id="it")
        await world.quiet(engine)
        row = engine.store.find(execution.id)
        run = Run(_other_argument(), "it")
        with pytest.raises(NonDeterminismError) as raised:
            run.replay(engine.store.history(row.num))
    error = raised.value
    assert error.seq == 2
    assert error.expected == '#2 activity_scheduled double {"n":1}'
    assert error.got == '#2 activity_scheduled double {"n":2}'
    assert error.source.startswith(f"{__file__}:")
