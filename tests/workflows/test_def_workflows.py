"""Plain `def` workflows wait without a thread, through nested calls, exceptions and context variables."""

from __future__ import annotations

import asyncio
import contextvars
import threading

import pytest

import perdure
from perdure import Retry, Saga, Signal, Status, activity, continue_as_new, now, state, uuid4, workflow
from perdure.errors import ExecutionCancelled, ExecutionTimedOut

go = Signal("go", int)
shade: contextvars.ContextVar[str] = contextvars.ContextVar("shade", default="none")


class Broken(Exception):
    pass


@activity
def double(n: int) -> int:
    return 2 * n


@activity
async def triple(n: int) -> int:
    return 3 * n


@activity(retry=Retry(attempts=1))
def fail(message: str) -> None:
    raise Broken(message)


@workflow
def child(n: int) -> int:
    perdure.sleep(n)  # each ends at its own time: what runs in threads ends in any order
    return double(n)


@workflow
async def async_child(n: int) -> int:
    await asyncio.sleep(n)
    return await triple(n)


async def test_calls_of_def_activities_give_their_results(play):
    @workflow
    def job() -> list[int]:
        results = [double(n) for n in range(3)]
        perdure.sleep(3_600)
        return [*results, double(n=10)]

    assert (await play(job)).result == [0, 2, 4, 20]


async def test_async_activities_are_awaited_by_result(play):
    @workflow
    def job() -> list[int]:
        calls = [triple.submit(n) for n in range(3)]
        return [call.result() for call in calls]

    outcome = await play(job)
    assert outcome.result == [0, 3, 6]
    assert outcome.names()[1:4] == ["activity_scheduled"] * 3  # at once, not one after the other


async def test_children_of_both_kinds_are_called_and_submitted(play):
    @workflow
    def job() -> list[int]:
        calls = [async_child.submit(1), child.submit(2)]
        return [child(3), *(call.result() for call in calls)]

    assert (await play(job, also=[child, async_child])).result == [6, 3, 4]


async def test_an_async_workflow_calls_a_def_child(play):
    @workflow
    async def job() -> list[int]:
        return list(await asyncio.gather(child.submit(1), child.submit(2), async_child(3)))

    assert (await play(job, also=[child, async_child])).result == [2, 4, 9]


async def test_waiting_works_at_any_depth_of_plain_calls(play):
    def descend(depth: int) -> int:
        return descend(depth - 1) + 1 if depth else double(100)

    @workflow
    def job() -> int:
        total = sum(map(double, range(3)))
        perdure.sleep(1)
        return total + descend(50)

    assert (await play(job)).result == 6 + 250


async def test_exceptions_are_raised_where_the_result_is_asked_for(play):
    @workflow
    def failing() -> None:
        perdure.sleep(1)
        raise Broken("child")

    @workflow
    def job() -> list[str]:
        seen = []
        try:
            fail("activity")
        except Broken as error:
            seen.append(str(error))
        call = failing.submit()
        try:
            call.result()
        except Broken as error:
            seen.append(str(error))
        finally:
            seen.append(str(double(1)))
        return seen

    assert (await play(job, also=[failing])).result == ["activity", "child", "2"]


async def test_an_exception_that_leaves_the_function_fails_the_execution(play):
    @workflow
    def job() -> None:
        perdure.sleep(1)
        raise Broken("out")

    assert (await play(job)).error == "Broken: out"


async def test_signals_state_and_values_are_there_too(play):
    @workflow
    def job() -> list[object]:
        state["step"] = 1
        first = go.receive().result()
        began = now()
        perdure.sleep(10)
        return [first, go.receive().result(), (now() - began).total_seconds(), len(str(uuid4())), dict(state)]

    script = [lambda it: it.signal(go, 7), lambda it: it.signal(go, 8)]
    assert (await play(job, script=script)).result == [7, 8, 10.0, 36, {"step": 1}]


async def test_context_variables_last_across_waits_and_stay_inside(play):
    shade.set("the test's")

    @workflow
    def inner() -> str:
        seen = shade.get()
        shade.set("inner")
        perdure.sleep(1)
        return f"{seen}, {shade.get()}"

    @workflow
    def job() -> list[str]:
        seen = [shade.get()]
        shade.set("mine")
        call = inner.submit()
        perdure.sleep(5)
        double(1)
        return [*seen, shade.get(), call.result(), shade.get()]

    assert (await play(job, also=[inner])).result == ["none", "mine", "none, inner", "mine"]
    assert shade.get() == "the test's"


async def test_cancellation_is_raised_at_the_wait_and_cleanup_may_wait_again(play):
    @workflow
    def job() -> None:
        try:
            perdure.sleep(1_000)
        finally:
            state["cleaned"] = double(21)
            perdure.sleep(5)

    outcome = await play(job, script=[lambda it: it.cancel("enough")])
    assert outcome.error == "ExecutionCancelled: execution it was cancelled: enough"
    assert outcome.names()[-3:] == ["timer_started", "timer_fired", "cancelled"]


async def test_a_timeout_is_raised_at_the_wait(world):
    @workflow
    def job() -> None:
        go.receive().result()

    async with world.engine(job) as engine:
        execution = await engine.start(job, timeout_s=60)
        await world.jump(engine)
        with pytest.raises(ExecutionTimedOut):
            await execution.result()


async def test_swallowing_the_cancellation_completes(play):
    @workflow
    def job() -> str:
        try:
            child(1)
        except asyncio.CancelledError:
            return "swallowed"
        return "not cancelled"

    assert (await play(job, also=[child], script=[lambda it: it.cancel()])).result == "swallowed"


async def test_saga_works_with_a_plain_with_block(play):
    @workflow
    def job() -> None:
        with Saga() as saga:
            saga.add(double, 1)
            saga.add(triple, 2)
            saga.add(child, 3)
            fail("after the steps")

    outcome = await play(job, also=[child])
    assert outcome.error == "Broken: after the steps"
    started = ("ACTIVITY_SCHEDULED", "CHILD_STARTED")
    undone = [event.name for event in outcome.histories["it"] if event.kind.name in started]
    assert undone == ["fail", "child", "triple", "double"]


async def test_it_can_continue_as_new(play):
    @workflow
    def job(left: int, total: int = 0) -> int:
        if left:
            continue_as_new(left - 1, total=total + double(left))
        return total

    assert (await play(job, 5)).result == 30


async def test_ten_thousand_waiting_def_workflows_hold_no_thread(world):
    @workflow
    def wait(n: int) -> int:
        return n + go.receive().result()

    async with world.engine(wait, hot=20_000) as engine:
        before = threading.active_count()
        started = await asyncio.gather(*(engine.start(wait, n, id=f"w{n}") for n in range(10_000)))
        await world.quiet(engine)
        assert (await engine.counts()) == {Status.WAITING: 10_000}
        assert threading.active_count() < before + 40  # reading, for one, has asyncio's pool of at most 32
        for execution in started[::1_000]:
            await execution.signal(go, 1)
        assert [await execution.result() for execution in started[::1_000]] == [n + 1 for n in range(0, 10_000, 1_000)]


async def test_an_evicted_def_workflow_runs_no_cleanup_for_real(world):
    cleaned = []

    @activity
    def clean(n: int) -> None:
        cleaned.append(n)

    @workflow
    def job(n: int) -> None:
        try:
            go.receive().result()
        finally:
            clean(n)

    async with world.engine(job, hot=0) as engine:
        executions = [await engine.start(job, n) for n in range(5)]
        await world.quiet(engine)
        assert cleaned == []
        await executions[3].signal(go, 0)
        await executions[3].result()
        assert cleaned == [3]
        await executions[1].cancel()
        with pytest.raises(ExecutionCancelled):
            await executions[1].result()
    assert cleaned == [3, 1]
