"""What becomes of children when their parent ends or is cancelled, and of parents when their children are."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Execution, Signal, Status, activity, continue_as_new, workflow
from perdure.errors import ExecutionCancelled, ExecutionTerminated

go = Signal("go", int)


class Broken(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(f"code {code}")
        self.code = code


@activity
async def double(n: int) -> int:
    return 2 * n


@workflow
async def waits() -> int:
    return await go.receive()


async def _statuses(engine) -> dict[str, str]:
    return {info.id: info.status.value for info in await engine.list()}


async def test_cancelling_the_parent_cancels_its_children_and_waits_for_their_cleanup(play):
    @workflow
    async def careful() -> None:
        try:
            await asyncio.sleep(1_000)
        finally:
            await asyncio.sleep(5)
            await double(1)

    @workflow
    async def parent() -> None:
        await asyncio.gather(careful(), careful())

    outcome = await play(parent, also=[careful], script=[lambda it: it.cancel("stop")])
    assert outcome.error == "ExecutionCancelled: execution it was cancelled: stop"
    children = [id for id in outcome.histories if id != "it"]
    assert [outcome.names(id)[-2:] for id in children] == [["activity_completed", "cancelled"]] * 2


async def test_children_left_open_are_cancelled_when_the_parent_ends(world):
    @workflow
    async def parent(fails: bool) -> None:
        waits.options(id=f"child of {fails}").submit()
        await asyncio.sleep(1)
        if fails:
            raise Broken(1)

    async with world.engine(parent, waits) as engine:
        await engine.start(parent, True, id="a")
        await engine.start(parent, False, id="b")
        await world.jump(engine)
        assert await _statuses(engine) == {
            "a": "failed", "b": "completed", "child of True": "cancelled", "child of False": "cancelled",
        }  # fmt: skip
        with pytest.raises(ExecutionCancelled, match="its parent a has ended"):
            await engine.execution("child of True").result()


@pytest.mark.parametrize("hot", [10_000, 0])
async def test_an_abandoned_child_outlives_its_parent_however_that_ends(world, hot):
    @workflow
    async def returns() -> None:
        waits.options(id="of returns", on_parent_end="abandon").submit()

    @workflow
    async def fails() -> None:
        waits.options(id="of fails", on_parent_end="abandon").submit()
        await asyncio.sleep(1)
        raise Broken(1)

    @workflow
    async def waiting() -> None:
        await waits.options(id="of waiting", on_parent_end="abandon").submit()

    @workflow
    async def elsewhere() -> None:
        waits.options(id="of elsewhere", on_parent_end="abandon").submit()
        await asyncio.sleep(1_000)

    @workflow
    async def killed() -> None:
        await waits.options(id="of killed", on_parent_end="abandon").submit()

    parents = [returns, fails, waiting, elsewhere, killed]
    async with world.engine(*parents, waits, hot=hot) as engine:
        for parent in parents:
            await engine.start(parent, id=parent.name)
        await world.jump(engine)
        await engine.execution("waiting").cancel()
        await engine.execution("elsewhere").cancel()
        await engine.execution("killed").terminate()
        await world.quiet(engine)
        statuses = await _statuses(engine)
        ended = {name: statuses[name] for name in ("returns", "fails", "waiting", "elsewhere", "killed")}
        assert ended == {
            "returns": "completed", "fails": "failed", "waiting": "cancelled", "elsewhere": "cancelled",
            "killed": "terminated",
        }  # fmt: skip
        for parent in parents:
            child: Execution[int] = engine.execution(f"of {parent.name}", waits)
            assert (await child.info()).status is Status.WAITING
            await child.signal(go, 3)
            assert await child.result() == 3


async def test_cancelling_the_call_of_an_abandoned_child_cancels_it(play):
    @workflow
    async def parent() -> str:
        call = waits.options(id="child", on_parent_end="abandon").submit()
        await asyncio.sleep(1)
        call.cancel()
        try:
            await call
        except asyncio.CancelledError:
            return "cancelled"
        return "no"

    outcome = await play(parent, also=[waits])
    assert outcome.result == "cancelled"
    assert outcome.names("child")[-1] == "cancelled"


async def test_terminating_the_parent_cancels_its_children(world):
    @workflow
    async def parent() -> int:
        return await waits.options(id="child")()

    async with world.engine(parent, waits) as engine:
        execution = await engine.start(parent, id="parent")
        await world.quiet(engine)
        await execution.terminate()
        await world.quiet(engine)
        assert await _statuses(engine) == {"parent": "terminated", "child": "cancelled"}


async def test_a_child_cancelled_or_terminated_by_others_is_an_error_in_the_parent(play):
    @workflow
    async def parent() -> list[str]:
        seen = []
        for name in "cancelled", "terminated":
            try:
                await waits.options(id=name).submit()
            except (ExecutionCancelled, ExecutionTerminated) as error:
                seen.append(f"{type(error).__name__}: {error}")
        return seen

    script = [
        lambda it: it.client.execution("cancelled").cancel(),
        lambda it: it.client.execution("terminated").terminate(),
    ]
    assert (await play(parent, also=[waits], script=script)).result == [
        "ExecutionCancelled: child cancelled was cancelled",
        "ExecutionTerminated: child terminated was terminated",
    ]


async def test_a_call_that_was_cancelled_ends_as_cancelled_also_when_the_child_swallows_that(play):
    @workflow
    async def stubborn() -> str:
        try:
            await asyncio.sleep(1_000)
        except asyncio.CancelledError:
            await asyncio.sleep(5)
        return "done all the same"

    @workflow
    async def parent() -> str:
        call = stubborn.options(id="child").submit()
        await asyncio.sleep(1)
        call.cancel()
        call.cancel()
        try:
            return await call
        except asyncio.CancelledError:
            return "cancelled"

    outcome = await play(parent, also=[stubborn])
    assert outcome.result == "cancelled"
    assert outcome.names().count("child_cancel_requested") == 1
    assert outcome.names("child")[-1] == "completed"


async def test_cancelling_a_parent_reaches_the_current_run_of_a_child(play):
    @workflow
    async def counts(left: int) -> None:
        if left:
            continue_as_new(left - 1)
        await asyncio.sleep(1_000)

    @workflow
    async def parent() -> None:
        await counts.options(id="child")(3)

    outcome = await play(parent, also=[counts], script=[lambda it: it.cancel()])
    assert outcome.names("child:4")[-3:] == ["cancel_requested", "timer_cancelled", "cancelled"]
    assert outcome.names()[-1] == "cancelled"
