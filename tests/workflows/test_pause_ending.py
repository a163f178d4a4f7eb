"""An execution that ends, or goes on as a new run, while it is being resumed: nothing is lost, nothing stays behind."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Client, Engine, Retry, Signal, Transaction, activity, continue_as_new, current_attempt, workflow
from perdure.errors import ExecutionCancelled, ExecutionTimedOut

number = Signal("number", int)
go = Signal("go", str)
PATIENCE_S = 20.0


@workflow
async def two_a_run(received: list[int]) -> list[int]:
    for _ in range(2):
        value = await number.receive()
        if value < 0:
            return received
        received.append(value)
    return continue_as_new(received)


@activity(total_timeout_s=3_600)
async def ask() -> str:
    current_attempt().finish_later()


@workflow
async def asks() -> str:
    return await ask()


def count(engine: Engine, table: str) -> int:
    found: int = engine.store.reader.connection.execute(f"SELECT count(*) FROM perdure_{table}").get
    return found


async def test_signals_for_a_paused_execution_reach_the_run_that_it_goes_on_as(database, until):
    async with Engine(database, workflows=[two_a_run]) as engine, Client(database) as client:
        execution = await engine.start(two_a_run, [], id="x")
        await execution.pause()
        for value in 1, 2, 3, 4, 5, -1:
            await client.execution("x").signal(number, value)
        await until(lambda: engine._runner.arrivals.seen == 6)  # the runner has read them and left them there
        await execution.resume()
        assert await execution.result(PATIENCE_S) == [1, 2, 3, 4, 5]
        assert count(engine, "inbox") == 0


async def test_nothing_stays_in_the_inbox_of_an_execution_that_was_terminated_while_paused(database):
    async with Engine(database, workflows=[two_a_run]) as engine:
        execution = await engine.start(two_a_run, [], id="x")
        await execution.pause()
        await execution.signal(number, 1)
        assert count(engine, "inbox") == 1
        await execution.terminate()
        assert count(engine, "inbox") == 0


async def test_cancelling_a_paused_execution_leaves_no_timer(database, until):
    """Its activity waits for the outside, with a time limit: a timer in the file, set again when it is loaded."""
    async with Engine(database, workflows=[asks], hot=0) as engine:
        execution = await engine.start(asks, id="x")
        await until(lambda: count(engine, "timer") == 1)
        await execution.pause()
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await execution.result(PATIENCE_S)
        assert count(engine, "timer") == 0


@activity(transactional=True)
def note(transaction: Transaction, text: str) -> str:
    transaction.execute("CREATE TABLE IF NOT EXISTS notes (text TEXT)")
    transaction.execute("INSERT INTO notes VALUES (?)", (text,))
    return text


@workflow
async def notes() -> str:
    return await note.submit(await go.receive())


async def test_a_transactional_activity_takes_effect_only_when_its_end_can_be_recorded(world):
    """Paused in the transaction that schedules it, it would leave its end in the inbox. The execution's time limit came
    first there, its end was dropped, and a retry let it take effect again."""
    async with world.engine(notes) as engine:
        execution = await engine.start(notes, id="x", timeout_s=60)
        await asyncio.gather(execution.signal(go, "once"), execution.pause())
        await world.jump(engine, 61)
        await execution.resume()
        with pytest.raises(ExecutionTimedOut):
            await execution.result(PATIENCE_S)
        await execution.retry()
        assert await execution.result(PATIENCE_S) == "once"
        assert engine.store.reader.connection.execute("SELECT text FROM notes").fetchall() == [("once",)]


stops = []


@activity(retry=Retry(initial_s=0.001))
async def stubborn() -> int:
    number = current_attempt().number
    if number == 1:
        stops.append(1)
        await asyncio.Event().wait()
    if number == 2:
        raise ConnectionError
    return number


@workflow
async def tries() -> int:
    return await stubborn()


async def test_an_activity_that_was_stopped_and_failed_leaves_no_sign_of_life(database, until):
    async with Engine(database, workflows=[tries], grace_s=0) as engine:
        await engine.start(tries, id="x")
        await until(lambda: stops)
    async with Engine(database, workflows=[tries]) as engine:
        assert await engine.execution("x", tries).result(PATIENCE_S) == 3
        assert count(engine, "heartbeat") == 0
