"""Saga: undo steps run in reverse, each durable, on failure and on cancellation."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Retry, Saga, activity, continue_as_new, workflow
from perdure.errors import ExecutionCancelled


class Broken(Exception):
    pass


@activity(retry=Retry(attempts=1))
async def book(what: str) -> str:
    if what == "broken":
        raise Broken("no room")
    return f"booked {what}"


@activity(retry=Retry(attempts=1))
async def undo(what: str) -> None:
    if what == "stuck":
        raise LookupError("cannot undo")


@activity
def undo_in_thread(what: str) -> None:
    pass


@workflow
async def undo_slowly(what: str) -> None:
    await asyncio.sleep(60)
    await undo(what)


@workflow
async def trip(stops: list[str]) -> list[str]:
    async with Saga() as saga:
        booked = []
        for stop in stops:
            booked.append(await book(stop))
            saga.add(undo, stop)
            await asyncio.sleep(1)
        return booked


def undone(outcome, id="it"):
    return [e.data for e in outcome.histories[id] if e.kind.name == "ACTIVITY_SCHEDULED" and e.name.startswith("undo")]


async def test_nothing_is_undone_when_all_goes_well(play):
    outcome = await play(trip, ["a", "b"])
    assert outcome.result == ["booked a", "booked b"]
    assert undone(outcome) == []


async def test_steps_are_undone_in_reverse_and_the_error_goes_on(play):
    outcome = await play(trip, ["a", "b", "broken", "c"])
    assert outcome.error == "Broken: no room"
    assert undone(outcome) == ['{"what":"b"}', '{"what":"a"}']


async def test_cancellation_undoes_too_and_a_second_one_does_not_stop_that(play):
    @workflow
    async def job() -> None:
        async with Saga() as saga:
            saga.add(undo, "first")
            saga.add(undo_slowly, "slow")
            saga.add(undo, "last")
            await asyncio.sleep(1_000)

    script = [lambda it: it.cancel("stop"), lambda it: it.cancel("again")]
    outcome = await play(job, also=[undo_slowly], script=script)
    assert outcome.error == "ExecutionCancelled: execution it was cancelled: stop"
    assert undone(outcome) == ['{"what":"last"}', '{"what":"first"}']
    child = next(id for id in outcome.histories if id != "it")
    assert outcome.names(child)[-1] == "completed"


async def test_a_step_that_fails_does_not_stop_the_others_and_leaves_a_note(world):
    async with world.engine(trip) as engine:
        execution = await engine.start(trip, ["a", "stuck", "b", "broken"], id="it")
        while not (await execution.info()).status.closed:
            if engine.store.next_due() is not None:
                await world.jump(engine)
            await world.quiet(engine)
        with pytest.raises(Broken) as raised:
            await execution.result()
        assert "undo step undo failed: LookupError: cannot undo" in raised.value.__notes__
        names = [event.name async for event in execution.history() if event.kind == "activity_scheduled"]
        assert names.count("undo") == 3


async def test_a_timeout_around_it_undoes_and_is_raised(play):
    @workflow
    async def job() -> str:
        try:
            async with asyncio.timeout(10):
                async with Saga() as saga:
                    saga.add(undo_slowly, "slow")
                    saga.add(undo_in_thread, "fast")
                    await asyncio.sleep(1_000)
        except TimeoutError:
            return "timeout"
        return "no timeout"

    outcome = await play(job, also=[undo_slowly])
    assert outcome.result == "timeout"
    assert undone(outcome) == ['{"what":"fast"}']


async def test_a_timeout_that_passes_during_the_undoing_does_not_cut_it_short(play):
    @workflow
    async def job() -> str:
        try:
            async with asyncio.timeout(10):
                async with Saga() as saga:
                    saga.add(undo, "first")
                    saga.add(undo_slowly, "slow")
                    raise Broken("at once")
        except (TimeoutError, Broken) as error:
            return type(error).__name__

    outcome = await play(job, also=[undo_slowly])
    assert outcome.result == "TimeoutError"  # raised when the undoing is done: a cancellation is late, not lost
    assert undone(outcome) == ['{"what":"first"}']


async def test_continuing_as_new_is_not_a_failure(play):
    @workflow
    async def job(first: bool) -> str:
        async with Saga() as saga:
            saga.add(undo, "a")
            if first:
                continue_as_new(False)
        return "done"

    outcome = await play(job, True)
    assert outcome.result == "done"
    assert undone(outcome) == []


async def test_sagas_nest_and_can_be_undone_by_hand(play):
    @workflow
    async def job() -> str:
        async with Saga() as outer:
            outer.add(undo, "outer")
            try:
                async with Saga() as inner:
                    inner.add(undo, "inner")
                    raise Broken("inside")
            except Broken:
                pass
            outer.add(undo, "by hand")
            await outer.undo()
            await outer.undo()
        return "done"

    outcome = await play(job)
    assert outcome.result == "done"
    assert undone(outcome) == ['{"what":"inner"}', '{"what":"by hand"}', '{"what":"outer"}']


async def test_only_durable_steps_are_taken():
    with pytest.raises(TypeError, match="an undo step is an activity or a workflow"):
        Saga().add(print, "text")
    with pytest.raises(TypeError, match="async with Saga"):
        with Saga():
            pass


async def test_undoing_goes_on_where_a_killed_process_left_it(world):
    at_slow, release, calls = asyncio.Event(), asyncio.Event(), []

    @activity
    async def undo_b() -> None:
        calls.append("b")
        at_slow.set()
        await release.wait()

    @activity
    async def undo_c() -> None:
        calls.append("c")

    @activity
    async def undo_a() -> None:
        calls.append("a")

    @workflow
    async def job() -> None:
        async with Saga() as saga:
            saga.add(undo_a)
            saga.add(undo_b)
            saga.add(undo_c)
            await asyncio.sleep(1_000)

    async with world.engine(job) as engine:
        execution = await engine.start(job, id="it")
        await execution.cancel()
        await at_slow.wait()
    release.set()
    async with world.engine(job) as engine:
        with pytest.raises(ExecutionCancelled):
            await engine.execution("it").result()
    assert calls == ["c", "b", "b", "a"]


async def test_a_step_that_cannot_even_be_submitted_does_not_stop_the_ones_before_it(play):
    @workflow
    async def trip() -> None:
        async with Saga() as saga:
            saga.add(undo, await book("hotel"))
            saga.add(undo)
            await book("broken")

    outcome = await play(trip)
    assert outcome.error == "Broken: no room"
    undone = [event.data for event in outcome.histories["it"] if event.name == "undo"]
    assert undone == ['{"what":"booked hotel"}']
