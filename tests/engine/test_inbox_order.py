"""What one process sends through the file arrives in the order in which it was sent."""

from __future__ import annotations

import asyncio

import perdure.engine.runner
from perdure import Client, Engine, Signal, activity, current_attempt, workflow
from perdure.events import Kind
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


async def _begin(database) -> None:
    async with Engine(database, workflows=[collect]) as engine:
        await engine.start(collect, id="x")


async def test_a_signal_that_comes_while_a_paused_execution_is_resumed_waits_for_those_before_it(database):
    """Found by the torture: whoever is resumed looks into the inbox, and found what was not its turn yet."""
    await _begin(database)
    async with Client(database) as client:
        execution = client.execution("x")
        await execution.pause()
        await execution.resume()
        for value in (1, 2):
            await execution.signal(number, value)
    async with Engine(database, workflows=[collect]) as engine:
        assert engine._runner is not None
        store = engine._runner.store
        parked = store.parked
        other = SqliteStore(database)

        def parked_just_after_another_came(num: int):
            row = other.get(num)
            assert row is not None
            other.request([Parked(row, "signal", None, None, "number", "3")])
            return parked(num)

        store.parked = parked_just_after_another_came
        await engine.execution("x").signal(number, LAST)
        received = await engine.execution("x", collect).result(10)
        other.close()
    assert received[:2] == [1, 2]


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
