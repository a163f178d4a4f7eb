"""One runner per file: who it is, who stands by, and how fast the next one takes over."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest

from perdure import Client, Engine, Signal, activity, workflow
from perdure.errors import StaleRunner, StoreError
from perdure.events import Event, Kind
from perdure.store import ExecutionRow
from perdure.store.sqlite import SqliteStore

go = Signal("go", str)


@workflow
async def waits() -> str:
    return await go.receive()


@workflow
async def naps(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "woke"


HOST = """
    import asyncio, os, sys
    from perdure import Engine, Signal, activity, workflow

    go = Signal("go", str)

    @workflow
    async def waits() -> str:
        return await go.receive()

    @workflow
    async def naps(seconds: float) -> str:
        await asyncio.sleep(seconds)
        return "woke"

    async def main():
        async with Engine(sys.argv[1], workflows=[waits, naps]) as engine:
            print("leading" if engine.leading else "standing by", os.getpid(), flush=True)
            while not engine.leading:
                await asyncio.sleep(0.001)
            print("leads", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


async def test_the_second_engine_in_a_process_stands_by_and_takes_over_when_the_first_closes(database, until):
    first = Engine(database, workflows=[waits])
    async with first:
        async with Engine(database, workflows=[waits]) as second:
            assert (first.leading, second.leading) == (True, False)
            execution = await second.start(waits, id="x")
            await first.__aexit__(None, None, None)
            await until(lambda: second.leading)
            await execution.signal(go, "on")
            assert await execution.result() == "on"
        await first.__aenter__()


async def test_the_engine_in_another_process_stands_by(database, spawn):
    async with Engine(database, workflows=[waits]) as engine:
        assert engine.leading
        other = spawn(HOST, database)
        assert other.stdout.readline().startswith("standing by")
    assert other.stdout.readline() == "leads\n"


async def test_a_standby_takes_over_soon_after_a_kill(database, spawn, until):
    runner = spawn(HOST, database)
    assert runner.stdout.readline().startswith("leading")
    async with Engine(database, workflows=[waits, naps]) as standby:
        waiting = await standby.start(waits, id="w")
        took = []
        for _ in range(5):
            assert not standby.leading
            runner.send_signal(signal.SIGKILL)
            began = time.monotonic()
            await until(lambda: standby.leading)
            took.append((time.monotonic() - began) * 1000)
            if len(took) < 5:  # hand it back to a new runner
                await standby.__aexit__(None, None, None)
                runner.wait()
                runner = spawn(HOST, database)
                assert runner.stdout.readline().startswith("leading")
                await standby.__aenter__()
        print(f"takeover after kill -9: {', '.join(f'{ms:.0f}' for ms in took)} ms")
        assert max(took) < 5_000
        await waiting.signal(go, "went on")
        assert await waiting.result() == "went on"


async def test_a_timer_fires_although_its_runner_was_killed(database, spawn):
    runner = spawn(HOST, database)
    assert runner.stdout.readline().startswith("leading")
    async with Engine(database, workflows=[waits, naps]) as standby:
        nap = await standby.start(naps, 0.3, id="n")
        runner.kill()
        assert await nap.result() == "woke"


async def test_recovery_needs_no_action_of_the_user(database):
    ran = asyncio.Event()

    @activity
    async def work() -> str:
        if not ran.is_set():
            ran.set()
            await asyncio.Event().wait()
        return "done"

    @workflow
    async def job() -> str:
        return await work()

    async with Engine(database, workflows=[job], grace_s=0) as engine:
        await engine.start(job, id="x")
        await ran.wait()
    async with Engine(database, workflows=[job]) as engine:
        assert await engine.execution("x", job).result() == "done"


async def test_a_stale_runner_is_refused_and_steps_down(database, until):
    async with Engine(database, workflows=[waits]) as stale:
        one = await stale.start(waits, id="one")
        os.unlink(f"{database}-lock")
        async with Engine(database, workflows=[waits]) as fresh:
            assert fresh.leading
            waiter = asyncio.create_task(one.result())
            with pytest.raises(StaleRunner, match="another process became the runner"):
                await stale.start(waits, id="two")
            await until(lambda: not stale.leading)
            with pytest.raises(LookupError):
                await fresh.describe("two")
            await fresh.execution("one").signal(go, "on")
            assert await fresh.execution("one").result() == "on"
            assert await waiter == "on", "who waits at the engine that stepped down hears of it too"
            three = await stale.start(waits, id="three")  # now as a client of the other
            await three.signal(go, "also")
            assert await three.result() == "also"
            assert not stale.leading
        await until(lambda: stale.leading)


async def test_a_stale_runner_does_not_finish_what_it_was_doing(database, until):
    release = asyncio.Event()
    ran = []

    @activity
    async def work() -> str:
        ran.append(1)
        await release.wait()
        return "done"

    @workflow
    async def job() -> str:
        return await work()

    async with Engine(database, workflows=[job], grace_s=0) as stale:
        await stale.start(job, id="x")
        await until(lambda: len(ran) == 1)
        os.unlink(f"{database}-lock")
        async with Engine(database, workflows=[job]) as fresh:
            await until(lambda: len(ran) == 2)
            release.set()
            assert await fresh.execution("x").result() == "done"
            await until(lambda: not stale.leading)
            kinds = [event.kind async for event in fresh.execution("x").history()]
            assert kinds.count("activity_completed") == 1
            assert [event.seq async for event in fresh.execution("x").history()] == list(range(1, len(kinds) + 1))


async def test_a_client_reads_while_the_runner_lives_and_after_it(database):
    async with Engine(database, workflows=[waits]) as engine:
        await engine.start(waits, id="x")
        async with Client(database) as client:
            assert (await client.describe("x")).status == "waiting"
    async with Client(database) as client:
        assert (await client.describe("x")).status == "waiting"


async def test_executions_that_answer_each_other_without_end_stop_nobody(database, monkeypatch):
    monkeypatch.setattr("perdure.engine.runner.BATCH_TOLD", 50)
    ball = Signal("ball", int)

    @workflow
    async def player(other: str, serves: bool) -> None:
        if serves:
            ball.send(other, 1)
        while True:
            ball.send(other, await ball.receive() + 1)

    async with Engine(database, workflows=[player, naps]) as engine:
        await engine.start(player, "b", False, id="a")
        await asyncio.wait_for(engine.start(player, "a", True, id="b"), 10)
        assert await (await engine.start(naps, 0.01)).result(timeout_s=10) == "woke"
        values = []
        for id in "a", "b":
            await engine.execution(id).terminate()
            events = [event async for event in engine.execution(id).history()]
            values += [event.value() for event in events if event.kind == "signal_received"]
        assert max(values) > 100
        assert sorted(values) == list(range(1, len(values) + 1))  # each ball arrived once


async def test_a_pending_execution_stands_in_the_queue_once_however_often_the_runner_is_rung(database, monkeypatch):
    monkeypatch.setattr("perdure.engine.runner.BATCH_INPUTS", 5)
    monkeypatch.setattr("perdure.engine.arrivals.PENDING_ROWS", 20)
    store = SqliteStore(database)
    for n in range(100):
        event = Event(1, Kind.STARTED, 1, None, "naps", '{"seconds":0}')
        store.create([(ExecutionRow(f"id{n}", "naps", 1), [event])])
    store.close()
    async with Engine(database, workflows=[naps]) as engine:
        longest = 0
        while engine.store.pending(1):
            engine._runner.rung()
            longest = max(longest, len(engine._runner.inputs))
            await asyncio.sleep(0)
        for n in range(100):
            assert await engine.execution(f"id{n}").result(timeout_s=20) == "woke"
    assert longest <= 100


async def test_a_takeover_that_fails_half_way_is_tried_again(database, monkeypatch, until):
    unfinished, tried = SqliteStore.unfinished, []

    def failing(self):
        tried.append(1)
        if len(tried) == 1:
            raise StoreError("injected")
        return unfinished(self)

    async with Engine(database, workflows=[naps]) as first:
        await first.start(naps, 0.1, id="x")
        async with Engine(database, workflows=[naps]) as second:
            monkeypatch.setattr(SqliteStore, "unfinished", failing)
            await first.__aexit__(None, None, None)
            await until(lambda: len(tried) == 2 and second.leading)
            assert await second.execution("x").result(timeout_s=20) == "woke"
