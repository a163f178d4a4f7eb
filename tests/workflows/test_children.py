"""Child workflows: fan-out, ids, failures, time limits, and what happens to them when their parent ends."""

from __future__ import annotations

import asyncio

from perdure import Retry, Signal, Status, activity, continue_as_new, execution_id, workflow
from perdure.errors import ExecutionExists, ExecutionTimedOut, InvalidValue

go = Signal("go", int)


class Broken(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


@activity
async def double(n: int) -> int:
    return 2 * n


@activity(retry=Retry(attempts=1))
async def fail(code: int) -> None:
    raise Broken(code)


@workflow
async def leaf(n: int) -> int:
    await asyncio.sleep(n)
    return await double(n)


@workflow
async def waits() -> int:
    return await go.receive()


async def test_a_parent_fans_out_and_gathers(play):
    @workflow
    async def parent() -> list[int]:
        return list(await asyncio.gather(*(leaf(n) for n in range(20))))

    outcome = await play(parent, also=[leaf])
    assert outcome.result == [2 * n for n in range(20)]
    assert len(outcome.histories) == 21


async def test_children_have_children(play):
    @workflow
    async def tree(depth: int) -> int:
        if depth == 0:
            return 1
        return sum(await asyncio.gather(tree(depth - 1), tree(depth - 1)))

    outcome = await play(tree, 4)
    assert outcome.result == 16
    assert len(outcome.histories) == 31


async def test_a_childs_own_exception_reaches_the_parent_with_its_attributes(play):
    @workflow
    async def failing() -> None:
        await fail(42)

    @workflow
    async def parent() -> list[object]:
        try:
            await failing()
        except Broken as error:
            return [error.code, str(error)]
        return []

    assert (await play(parent, also=[failing])).result == [42, "code 42"]


async def test_child_ids_come_from_the_parent_or_are_chosen(play):
    @workflow
    async def named() -> str:
        return execution_id()

    @workflow
    async def parent() -> list[str]:
        return [await named(), await named.options(id="chosen").submit(), await named()]

    ids = (await play(parent, also=[named])).result
    assert ids[1] == "chosen"
    assert ids[0].startswith("it/named-")
    assert ids[2].startswith("it/named-")
    assert len(set(ids)) == 3


async def test_a_taken_id_is_an_error_that_the_parent_can_catch(play):
    @workflow
    async def parent() -> str:
        first = waits.options(id="taken").submit()
        try:
            await waits.options(id="taken").submit()
        except ExecutionExists as error:
            first.cancel()
            return str(error).partition("\n")[0]
        return "no error"

    outcome = await play(parent, also=[waits])
    assert outcome.result == "execution taken exists already"
    assert outcome.names("taken")[-1] == "cancelled"


async def test_a_parent_that_could_not_start_a_child_leaves_the_strangers_execution_alone(world):
    @workflow
    async def parent() -> str:
        waits.options(id="stranger").submit()
        return "did not wait"

    @workflow
    async def impatient() -> str:
        call = waits.options(id="stranger").submit()
        call.cancel()
        await asyncio.sleep(1)
        return "cancelled at once"

    async with world.engine(parent, impatient, waits) as engine:
        stranger = await engine.start(waits, id="stranger")
        assert await (await engine.start(parent)).result() == "did not wait"
        execution = await engine.start(impatient)
        await world.jump(engine)
        assert await execution.result() == "cancelled at once"
        await world.quiet(engine)
        assert (await stranger.info()).status is Status.WAITING
        await stranger.signal(go, 5)
        assert await stranger.result() == 5


async def test_arguments_of_the_wrong_type_are_refused_in_the_parent(play):
    @workflow
    async def parent() -> str:
        try:
            await leaf("not a number")  # type: ignore[arg-type]
        except InvalidValue as error:
            return type(error).__name__
        return "no error"

    assert (await play(parent, also=[leaf])).result == "InvalidValue"


async def test_a_child_has_its_own_time_limit(play):
    @workflow
    async def parent() -> str:
        try:
            await leaf.options(timeout_s=10)(1_000)
        except ExecutionTimedOut as error:
            return str(error)
        return "no error"

    outcome = await play(parent, also=[leaf])
    assert "did not end within its timeout_s" in outcome.result
    assert outcome.histories["it"][-1].at - outcome.histories["it"][0].at == 10_000_000


async def test_a_parent_waits_through_the_runs_of_a_child(play):
    @workflow
    async def counts(left: int) -> str:
        await asyncio.sleep(1)
        if left:
            continue_as_new(left - 1)
        return "counted down"

    @workflow
    async def parent() -> str:
        return await counts(5)

    outcome = await play(parent, also=[counts])
    assert outcome.result == "counted down"
    assert len(outcome.histories) == 7


async def test_a_child_that_the_engine_was_not_given_is_found_through_its_parent(world):
    @workflow
    async def parent() -> int:
        return await leaf(0)

    async with world.engine(parent) as engine:
        assert await (await engine.start(parent)).result() == 0


def test_options_that_are_left_out_stay_as_they_are():
    changed = leaf.options(id="a", on_parent_end="abandon").options(timeout_s=3)
    assert (changed.id, changed.timeout_s, changed.on_parent_end) == ("a", 3, "abandon")
    assert (leaf.id, leaf.timeout_s, leaf.on_parent_end) == (None, None, "cancel")
