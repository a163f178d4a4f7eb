"""What waits in the file while nobody runs, and what a new runner makes of it: everything once, in order."""

from __future__ import annotations

import asyncio

import apsw
import pytest

from perdure import (
    Client,
    Engine,
    Retry,
    Signal,
    Status,
    Transaction,
    activity,
    continue_as_new,
    current_attempt,
    patched,
    workflow,
)
from perdure.errors import ExecutionTimedOut

number = Signal("number", int)
LAST = -1


@workflow
async def collect() -> list[int]:
    received: list[int] = []
    while (value := await number.receive()) != LAST:
        received.append(value)
    return received


@workflow
async def relay(received: list[int]) -> list[int]:
    value = await number.receive()
    return received if value == LAST else continue_as_new([*received, value])


async def test_a_standby_that_becomes_the_runner_keeps_the_order_of_what_it_sent(database):
    async with Engine(database, workflows=[collect]) as first, Engine(database, workflows=[collect]) as second:
        assert first.leading
        assert not second.leading
        execution = await second.start(collect, id="x")
        await first._stop_leading(0)
        await asyncio.gather(*(execution.signal(number, n) for n in range(20)))
        first._lock.release()
        second._try_to_lead()
        assert second.leading
        await asyncio.gather(*(execution.signal(number, n) for n in range(20, 40)))
        await execution.signal(number, LAST)
        assert await execution.result(10) == list(range(40))


async def test_signals_of_many_moments_arrive_once_and_in_order_when_a_runner_comes(database):
    async with Engine(database, workflows=[collect]) as engine:
        await engine.start(collect, id="x")
    async with Client(database) as client:
        execution = client.execution("x", collect)
        for n in range(3):
            await execution.signal(number, n)
            await execution.pause()
            await execution.resume()
        await execution.pause()
        await execution.signal(number, 3)
    async with Engine(database, workflows=[collect]) as engine:
        execution = engine.execution("x", collect)
        await execution.signal(number, 4)
        assert (await execution.info()).status is Status.PAUSED
        await execution.resume()
        await execution.signal(number, LAST)
        assert await execution.result(10) == [0, 1, 2, 3, 4]


async def test_signals_to_a_blocked_execution_arrive_once_when_its_code_fits_again(database, until):
    def changed(new: bool):
        @workflow(name="job")
        async def job() -> list[int]:
            if new and patched("other"):
                await asyncio.sleep(0)
            await asyncio.sleep(0.01 if new else 1_000)
            return [await number.receive(), await number.receive(), await number.receive()]

        return job

    async with Engine(database, workflows=[changed(False)]) as engine:
        await engine.start(changed(False), id="x")
    async with Engine(database, workflows=[changed(True)]) as engine:
        execution = engine.execution("x")
        await execution.signal(number, 1)
        await until(lambda: engine.store.find("x").status is Status.BLOCKED)
        await execution.signal(number, 2)
        await execution.signal(number, 3)
    async with Engine(database, workflows=[changed(False)]) as engine:
        execution = engine.execution("x")
        await execution.signal(number, 4)
        await until(lambda: engine.store.find("x").status is Status.WAITING)
        received = [event.data async for event in execution.history() if event.kind == "signal_received"]
        assert received == ["1", "2", "3", "4"]


async def test_a_signal_follows_an_execution_that_continued(database):
    async with Engine(database, workflows=[relay]) as engine:
        await engine.start(relay, [], id="x")
    async with Client(database) as client:
        for value in (1, 2, 3, LAST):  # all of them are addressed to the first run
            await client.execution("x").signal(number, value)
    async with Engine(database, workflows=[relay]) as engine:
        assert await engine.execution("x", relay).result(10) == [1, 2, 3]


async def test_an_execution_started_from_elsewhere_has_its_time_limit(database):
    async with Engine(database, workflows=[collect]):
        pass
    async with Client(database) as client:
        await client.start(collect, id="x", timeout_s=0.05)
    async with Engine(database, workflows=[collect]) as engine:
        with pytest.raises(ExecutionTimedOut):
            await engine.execution("x").result(10)


# --- attempts -------------------------------------------------------------------------------------------------------


async def test_the_count_of_attempts_survives_a_restart(database, until):
    runs: list[int] = []

    @activity(retry=Retry(attempts=3, initial_s=0.2, max_s=0.2, jitter=False))
    async def fails() -> None:
        runs.append(len(runs) + 1)
        raise ValueError(f"attempt {len(runs)}")

    @workflow
    async def job() -> None:
        await fails()

    async with Engine(database, workflows=[job], grace_s=0) as engine:
        await engine.start(job, id="x")
        await until(lambda: engine.store.last_event(1).kind.name == "ATTEMPT_FAILED")
    async with Engine(database, workflows=[job], hot=0) as engine:
        with pytest.raises(ValueError, match="attempt 3"):
            await engine.execution("x").result(10)
    assert runs == [1, 2, 3]


class Held:
    """An activity that runs until it is let go; `numbers` are the attempts that began."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.gate = asyncio.Event()

        @activity(retry=Retry(initial_s=0.01, max_s=0.01))
        async def hold() -> str:
            self.numbers.append(current_attempt().number)
            await self.gate.wait()
            return "held"

        @workflow
        async def job() -> str:
            return await hold()

        self.job = job


async def test_an_attempt_that_runs_while_its_execution_is_paused_and_evicted_is_not_run_again(database, until):
    held = Held()
    async with Engine(database, workflows=[held.job], hot=0) as engine:
        execution = await engine.start(held.job, id="x")
        await until(lambda: held.numbers)
        await execution.pause()
        held.gate.set()
        await until(lambda: engine.store.parked(1))
        await execution.resume()
        assert await execution.result(10) == "held"
    assert held.numbers == [1]


async def test_an_attempt_that_ran_when_a_paused_process_died_counts_as_interrupted(database, until):
    held = Held()
    after = database.with_name("after.db")
    async with Engine(database, workflows=[held.job]) as engine:
        execution = await engine.start(held.job, id="x")
        await until(lambda: held.numbers)
        await execution.pause()
        apsw.Connection(str(database)).execute("VACUUM INTO ?", (str(after),))  # what a kill would leave behind
        held.gate.set()
    async with Engine(after, workflows=[held.job]) as engine:
        execution = engine.execution("x", held.job)
        await execution.resume()
        assert await execution.result(10) == "held"
    assert held.numbers == [1, 2]


async def test_a_wait_that_ends_in_the_moment_of_resuming_is_not_lost(database, until):
    """The timer of the next attempt falls due in the very batch that resumes its execution."""
    clock_us = 1_800_000_000_000_000
    numbers: list[int] = []

    @activity(retry=Retry(initial_s=60, jitter=False))
    async def fails_once() -> str:
        numbers.append(current_attempt().number)
        if len(numbers) == 1:
            raise ValueError("no")
        return "done"

    @workflow
    async def job() -> str:
        return await fails_once()

    async with Engine(database, workflows=[job], now=lambda: clock_us) as engine:
        execution = await engine.start(job, id="x")
        await until(lambda: engine.store.next_due())
        await execution.pause()
        clock_us += 3_600_000_000
        await execution.resume()
        assert await execution.result(10) == "done"
    assert numbers == [1, 2]


async def test_a_wait_that_begins_in_the_moment_of_resuming_is_kept(database, until):
    clock_us = 1_800_000_000_000_000
    numbers: list[int] = []

    @activity(retry=Retry(initial_s=60, jitter=False))
    async def fails() -> None:
        numbers.append(current_attempt().number)
        raise ValueError("no")

    @workflow
    async def job() -> None:
        await fails()

    async with Engine(database, workflows=[job], now=lambda: clock_us) as engine:
        execution = await engine.start(job, id="x")
        await asyncio.gather(execution.pause(), execution.resume())
        await until(lambda: engine.store.next_due())
        await asyncio.gather(execution.pause(), execution.resume())
        assert numbers == [1]
        assert engine.store.next_due() == clock_us + 60_000_000


# --- transactional activities ---------------------------------------------------------------------------------------


async def test_a_statement_that_rolls_the_transaction_back_fails_its_own_activity_only(database):
    """SQLite's `OR ROLLBACK` ends the runner's whole transaction: the others in it must not be lost, nor it repeat."""

    @activity(transactional=True)
    def make(transaction: Transaction) -> None:
        transaction.execute("CREATE TABLE one (n INTEGER PRIMARY KEY)")
        transaction.execute("INSERT INTO one VALUES (0)")

    @activity(transactional=True)
    def insert(transaction: Transaction, n: int) -> int:
        transaction.execute("INSERT INTO one VALUES (?)", (n,))
        return n

    @activity(transactional=True, retry=Retry(attempts=2, initial_s=0.01))
    def spoil(transaction: Transaction) -> None:
        transaction.execute("INSERT OR ROLLBACK INTO one VALUES (0)")

    @workflow
    async def job() -> list[str]:
        await make.submit()
        found = await asyncio.gather(
            insert.submit(1), spoil.submit(), insert.submit(2), spoil.submit(), insert.submit(3), return_exceptions=True
        )
        return [str(each) if isinstance(each, int) else "failed" for each in found]

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job, id="x")
        assert await execution.result(10) == ["1", "failed", "2", "failed", "3"]
    with apsw.Connection(str(database)) as connection:
        assert connection.execute("SELECT n FROM one ORDER BY n").fetchall() == [(0,), (1,), (2,), (3,)]
