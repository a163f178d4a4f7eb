"""The readable state: what a workflow shows while it runs."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Client, Signal, continue_as_new, state, workflow
from perdure.errors import ExecutionNotFound, InvalidValue

go = Signal("go", int)


@workflow
async def steps() -> dict[str, object]:
    state["step"] = 0
    state["gone"] = "soon"
    state["nested"] = {"list": [1, 2.5, None, True], "text": "é"}
    while True:
        value = await go.receive()
        state["step"] += value
        if "gone" in state:
            del state["gone"]
        state.setdefault("first", value)
        if value == 0:
            return dict(state)


async def test_it_is_readable_from_anywhere_while_the_workflow_runs(world):
    nested = {"list": [1, 2.5, None, True], "text": "é"}
    async with world.engine(steps) as engine:
        execution = await engine.start(steps, id="it")
        assert await execution.state() == {"step": 0, "gone": "soon", "nested": nested}
        await execution.signal(go, 5)
        async with Client(world.database) as client:
            assert await client.execution("it").state() == {"step": 5, "nested": nested, "first": 5}
        await execution.signal(go, 0)
        assert await execution.result() == {"step": 5, "nested": nested, "first": 5}
        assert await execution.state() == {"step": 5, "nested": nested, "first": 5}


async def test_the_code_finds_it_as_it_left_it(play):
    script = [lambda it: it.signal(go, 2), lambda it: it.signal(go, 3), lambda it: it.signal(go, 0)]
    outcome = await play(steps, script=script)
    assert outcome.result["step"] == 5
    assert "gone" not in outcome.result


async def test_a_key_set_and_removed_in_one_step_is_not_there(world):
    @workflow
    async def job() -> list[str]:
        state["a"] = 1
        del state["a"]
        state["b"] = 1
        state.pop("b")
        state["b"] = 2
        state.update(c=3, d=4)
        state.pop("d")
        await go.receive()
        return sorted(state)

    async with world.engine(job) as engine:
        execution = await engine.start(job)
        assert await execution.state() == {"b": 2, "c": 3}
        await execution.signal(go, 1)
        assert await execution.result() == ["b", "c"]


async def test_missing_keys_and_wrong_values_are_errors(play):
    @workflow
    async def job() -> list[str]:
        seen = []
        try:
            state["missing"]
        except KeyError as error:
            seen.append(repr(error))
        try:
            del state["missing"]
        except KeyError as error:
            seen.append(repr(error))
        try:
            state["object"] = object()
        except InvalidValue as error:
            seen.append(type(error).__name__)
        try:
            state[1] = 1  # type: ignore[index]
        except TypeError as error:
            seen.append(str(error))
        return [*seen, str(state.get("missing", "default")), str(len(state))]

    assert (await play(job)).result == [
        "KeyError('missing')", "KeyError('missing')", "InvalidValue", "a state key is a string, not 1", "default", "0",
    ]  # fmt: skip


async def test_a_value_read_is_a_copy(play):
    @workflow
    async def job() -> list[int]:
        state["list"] = [1]
        state["list"].append(2)
        return list(state["list"])

    assert (await play(job)).result == [1]


async def test_it_goes_along_into_the_next_run(play):
    @workflow
    async def job(left: int) -> dict[str, int]:
        state[f"run{left}"] = left
        state["last"] = left
        state.pop(f"run{left + 2}", None)
        await asyncio.sleep(1)
        if left:
            continue_as_new(left - 1)
        return dict(state)

    assert (await play(job, 4)).result == {"run1": 1, "run0": 0, "last": 0}


async def test_nobody_has_no_state(world):
    async with world.engine(steps) as engine:
        with pytest.raises(ExecutionNotFound):
            await engine.execution("nobody").state()
