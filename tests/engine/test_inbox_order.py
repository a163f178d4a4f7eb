"""What one process sends through the file arrives in the order in which it was sent."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

import perdure.engine.runner
from perdure import Client, Engine, Retry, Signal, Status, activity, continue_as_new, current_attempt, workflow
from perdure.events import Event, Kind
from perdure.store import Parked
from perdure.store.sqlite import SqliteStore

number = Signal("number", int)
LAST = -1


@workflow
async def collect() -> list[int]:
    received: list[int] = []
    while (value := await number.receive()) != LAST:
        received.append(value)
    return received


def _received(engine: Engine) -> list[Event]:
    return [event for event in engine.store.history(1) if event.kind is Kind.SIGNAL_RECEIVED]


async def _begin(database) -> None:
    async with Engine(database, workflows=[collect]) as engine:
        await engine.start(collect, id="x")


def just_before_the_inbox_is_read(engine: Engine, requests: list[Parked]) -> SqliteStore:
    """Have another process ask for something in the moment in which the runner looks for what waits for "x"."""
    assert engine._runner is not None
    store, other = engine._runner.store, SqliteStore(engine.path)
    parked, left = store.parked, [requests]

    def parked_just_after_others_came(num: int):
        while left:
            other.request(left.pop())
        return parked(num)

    store.parked = parked_just_after_others_came
    return other


@pytest.mark.parametrize("paused_again", [False, True])
async def test_what_comes_while_an_execution_is_resumed_waits_for_what_came_before(database, until, paused_again):
    """Found by the torture: whoever is resumed looks into the inbox, and found what was not its turn yet."""
    await _begin(database)
    async with Client(database) as client:
        execution = client.execution("x")
        await execution.pause()
        await execution.resume()
        before = [] if paused_again else [1, 2]
        for value in before:
            await execution.signal(number, value)
        row = client.store.find("x")
    requests = [Parked(row, "pause"), Parked(row, "resume")] if paused_again else []
    requests += [Parked(row, "signal", None, None, "number", str(value)) for value in (3, 4)]
    async with Engine(database, workflows=[collect]) as engine:
        other = just_before_the_inbox_is_read(engine, requests)
        await until(lambda: len(_received(engine)) >= len(before) + 2)
        await engine.execution("x").signal(number, LAST)
        assert await engine.execution("x", collect).result(10) == [*before, 3, 4]
        other.close()


async def test_an_execution_that_is_paused_in_the_moment_of_resuming_starts_nothing(database, until):
    """Found by the torture: an attempt that was due seemed to have been started, and to have died."""
    clock_us = 1_800_000_000_000_000
    numbers: list[int] = []
    gate = asyncio.Event()

    @activity(retry=Retry(initial_s=60, jitter=False))
    async def fails_once() -> str:
        numbers.append(current_attempt().number)
        if len(numbers) == 1:
            raise ValueError("no")
        await gate.wait()
        return "done"

    @workflow
    async def job() -> str:
        return await fails_once()

    async with Engine(database, workflows=[job], now=lambda: clock_us, hot=0) as engine:
        execution = await engine.start(job, id="x")
        await until(engine.store.next_due)
        await execution.pause()
        clock_us += 3_600_000_000
        engine.doorbell.ring("runner")
        await until(lambda: engine.store.next_due() is None)
        row = engine.store.find("x")
        other = just_before_the_inbox_is_read(engine, [Parked(row, "pause")])
        await execution.resume()
        await until(lambda: engine.store.find("x").status is Status.PAUSED and not engine.store.parked(1))
        clock_us += 1_000_000
        gate.set()
        await execution.resume()
        assert await execution.result(10) == "done"
        reasons = [event.data for event in engine.store.history(1) if event.kind is Kind.ATTEMPT_FAILED]
        other.close()
    assert len(reasons) == 1
    assert numbers == [1, 2]


async def test_what_comes_while_much_waits_does_not_overtake_it(database, monkeypatch):
    monkeypatch.setattr(perdure.engine.runner, "BATCH_INPUTS", 1)
    await _begin(database)
    async with Client(database) as client:
        execution = client.execution("x")
        for value in range(20):
            await execution.signal(number, value)
        async with Engine(database, workflows=[collect]) as engine:
            for value in range(20, 40):
                await execution.signal(number, value)
            await execution.signal(number, LAST)
            assert await engine.execution("x", collect).result(10) == list(range(40))
            kinds = [event.kind for event in engine.store.history(1)]
    assert kinds.count(Kind.SIGNAL_RECEIVED) == 41


async def test_what_ended_while_an_execution_was_paused_is_known_when_it_is_resumed(database, until):
    """The request to resume it stands in the inbox before the results: they must not be left for later, or it would
    seem that the attempts died."""
    gate = asyncio.Event()

    @activity
    async def wait() -> int:
        await gate.wait()
        return current_attempt().number

    @workflow
    async def job() -> list[int]:
        return list(await asyncio.gather(wait(), wait()))

    async with Engine(database, workflows=[job], hot=0) as engine, Client(database) as client:
        execution = await engine.start(job, id="x")
        await execution.pause()
        assert engine._runner is not None
        rung, engine._runner.rung = engine._runner.rung, lambda: None
        for request in (client.execution("x").resume(), client.execution("x").signal(number, 1)):
            await request  # noticed later
        gate.set()
        await until(lambda: len(engine.store.parked(1)) == 4)
        engine._runner.rung = rung
        engine._runner.rung()
        assert await execution.result(10) == [1, 1]
        assert Kind.ATTEMPT_FAILED not in [event.kind for event in engine.store.history(1)]


@workflow
async def goes_on(received: list[int]) -> list[int]:
    while (value := await number.receive()) != LAST:
        received.append(value)
        if value == 0:
            return continue_as_new(received)
    return received


async def test_what_was_sent_to_the_run_before_is_received_when_the_next_is_resumed_in_the_same_moment(database):
    """Found by the simulation: the signal was moved to the run that is paused, and the resume did not see it there."""
    async with Engine(database, workflows=[goes_on]) as engine:
        execution = await engine.start(goes_on, [], id="x")
        await execution.signal(number, 0)
        await execution.pause()
        assert (await execution.info()).run == 2
    with contextlib.closing(SqliteStore(database)) as other:
        before, now = other.get(1), other.find("x")
        assert before is not None
        assert now is not None
        other.request(
            [
                Parked(before, "signal", None, None, number.name, "1"),
                Parked(now, "signal", None, None, number.name, "2"),
                Parked(now, "resume"),
                Parked(before, "signal", None, None, number.name, "3"),
            ]
        )
    async with Engine(database, workflows=[goes_on]) as engine:
        await engine.execution("x").signal(number, LAST)
        assert await engine.execution("x", goes_on).result(timeout_s=20) == [0, 1, 2, 3]
        assert engine.store.inbox(0, 10) == []
