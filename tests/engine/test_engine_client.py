"""Starting, signalling, cancelling and awaiting from another process than the runner's."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from perdure import Client, Conflict, Engine, Signal, continue_as_new, state, workflow
from perdure.errors import (
    EngineClosed,
    ExecutionCancelled,
    ExecutionClosed,
    ExecutionExists,
    ExecutionNotFound,
    PerdureError,
    StoreError,
)
from perdure.store.sqlite import Doorbell

go = Signal("go", str)


@workflow
async def waits(name: str = "") -> str:
    return name + await go.receive()


RUNNER = """
    import asyncio, sys
    from perdure import Engine, Signal, state, workflow

    go = Signal("go", str)

    @workflow
    async def waits(name: str = "") -> str:
        state["phase"] = "waiting"
        state["name"] = {"of": name}
        return name + await go.receive()

    async def main():
        async with Engine(sys.argv[1], workflows=[waits]) as engine:
            print("leads", flush=True)
            await asyncio.to_thread(sys.stdin.read)

    asyncio.run(main())
"""


@pytest.fixture
def runner(database, spawn):
    process = spawn(RUNNER, database)
    assert process.stdout.readline() == "leads\n"
    return process


async def test_a_client_starts_signals_and_awaits(database, runner):
    async with Client(database) as client:
        execution = await client.start(waits, "a", id="x")
        await execution.signal(go, "b")
        assert await execution.result() == "ab"
        assert (await execution.info()).status == "completed"


async def test_the_way_there_and_back_is_fast(database, runner):
    async with Client(database) as client:
        took = []
        for n in range(20):
            began = time.monotonic()
            execution = await client.start(waits, id=f"x{n}")
            await execution.signal(go, "b")
            await execution.result()
            took.append((time.monotonic() - began) * 1000)
    took.sort()
    print(f"start, signal, result across processes: median {took[10]:.1f} ms, worst {took[-1]:.1f} ms")
    assert took[10] < 500, "slower than a look once a second would explain: the doorbell is broken"


async def test_a_client_cancels(database, runner):
    async with Client(database) as client:
        execution = await client.start(waits, id="x")
        await execution.cancel("enough")
        with pytest.raises(ExecutionCancelled, match="enough"):
            await execution.result()
        for request in (execution.cancel(), execution.signal(go, "late")):
            with pytest.raises(ExecutionClosed):
                await request


async def test_a_client_reads_the_state_while_the_workflow_runs(database, runner, until):
    async with Client(database) as client:
        execution = await client.start(waits, "a", id="x")
        assert await until(execution.state) == {"phase": "waiting", "name": {"of": "a"}}


async def test_what_a_client_asks_while_nobody_runs_is_done_later(database):
    async with Engine(database, workflows=[waits]):
        pass
    async with Client(database) as client:
        execution = await client.start(waits, "a", id="x")
        await execution.signal(go, "b")
        assert (await execution.info()).status == "pending"
    async with Engine(database, workflows=[waits]) as engine:
        assert await engine.execution("x", waits).result() == "ab"


async def test_a_client_can_start_by_name_without_the_code(database, runner):
    async with Client(database) as client:
        execution = await client.start_by_name("waits", {"name": "a"}, id="x")
        await execution.signal("go", "b")
        assert await execution.result() == "ab"


async def test_the_same_id_gives_the_same_execution_and_other_input_is_refused(database, runner):
    async with Client(database) as client:
        await client.start(waits, "a", id="x")
        await client.start(waits, "a", id="x")
        with pytest.raises(ExecutionExists):
            await client.start(waits, "other", id="x")
        with pytest.raises(ExecutionExists):
            await client.start(waits, "a", id="x", on_conflict=Conflict.REJECT)
        again = await asyncio.gather(*(client.start(waits, "b", id="y") for _ in range(20)))
        assert {execution.id for execution in again} == {"y"}
        assert len(await client.list()) == 2


RACER = """
    import asyncio, sys
    from perdure import Client, Engine, workflow

    @workflow
    async def waits(name: str = "") -> str:
        return name

    async def main():
        async with Client(sys.argv[1]) as client:
            print("ready", flush=True)
            sys.stdin.readline()
            for n in range(20):
                execution = await client.start(waits, "same", id=f"race-{n}")
            print("done", flush=True)

    asyncio.run(main())
"""


async def test_many_processes_that_start_the_same_ids_at_once_make_one_execution_each(database, spawn):
    async with Engine(database, workflows=[waits]) as engine:
        racers = [spawn(RACER, database) for _ in range(4)]
        for racer in racers:
            assert racer.stdout.readline() == "ready\n"
        for racer in racers:
            racer.stdin.write("go\n")
            racer.stdin.flush()
        for racer in racers:
            line = await asyncio.to_thread(racer.stdout.readline)
            assert line == "done\n", racer.stderr.read()
        executions = await engine.list()
        assert sorted(info.id for info in executions) == sorted(f"race-{n}" for n in range(20))
        for info in executions:
            kinds = [event.kind async for event in engine.execution(info.id).history()]
            assert kinds.count("started") == 1


async def test_many_processes_that_open_a_new_file_at_once_agree(database, spawn):
    script = """
        import asyncio, sys
        from perdure import Engine, workflow

        @workflow
        async def one() -> int:
            return 1

        async def main():
            print("ready", flush=True)
            sys.stdin.readline()
            async with Engine(sys.argv[1], workflows=[one]) as engine:
                execution = await engine.start(one, id=sys.argv[2])
                print(await execution.result(), flush=True)

        asyncio.run(main())
    """
    processes = [spawn(script, database, f"id{n}") for n in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        output, errors = await asyncio.to_thread(process.communicate)
        assert output == "1\n", errors
    async with Client(database) as client:
        assert len(await client.list()) == 4


async def test_a_file_that_is_missing_is_not_made_by_a_client(database):
    with pytest.raises(StoreError, match="there is no database") as caught:
        async with Client(database):
            pass
    assert "Engine creates" in caught.value.hint
    assert not database.exists()


@pytest.mark.parametrize("kind", ["client", "engine"])
async def test_use_before_opening_and_after_closing_is_a_clear_error(database, kind):
    async with Engine(database, workflows=[waits]):
        pass
    client = Client(database) if kind == "client" else Engine(database, workflows=[waits])
    for _ in range(2):  # before, and after
        for use in (
            lambda: client.start(waits),
            lambda: client.describe("x"),
            lambda: client.list(),
            lambda: client.execution("x").signal(go, "x"),
            lambda: client.execution("x").result(),
            lambda: client.execution("x").state(),
            lambda: client.gc(keep=1),
            lambda: client.complete("1.1.1.x"),
        ):
            with pytest.raises(EngineClosed, match="is not open"):
                await use()
        async with client:
            with pytest.raises(PerdureError, match="open already"):
                await client.__aenter__()
            assert await client.list() == []


async def test_an_unknown_execution_is_a_clear_error(database):
    async with Engine(database, workflows=[waits]) as engine:
        execution = engine.execution("nobody")
        for use in (
            execution.info,
            execution.result,
            execution.state,
            execution.cancel,
            lambda: anext(execution.history()),
        ):
            with pytest.raises(ExecutionNotFound, match="nobody"):
                await use()


async def test_a_result_may_be_waited_for_with_a_limit(database):
    async with Engine(database, workflows=[waits]) as engine:
        execution = await engine.start(waits)
        with pytest.raises(TimeoutError):
            await execution.result(timeout_s=0.01)
        await execution.signal(go, "x")
        assert await execution.result() == "x"


async def test_closing_wakes_who_waits_for_a_result(database):
    engine = Engine(database, workflows=[waits])
    async with engine:
        execution = await engine.start(waits)
        waiter = asyncio.create_task(execution.result())
        await asyncio.sleep(0)
    with pytest.raises(EngineClosed):
        await waiter


async def test_whatever_goes_wrong_in_the_file_nobody_is_left_waiting(database, monkeypatch):
    async with Engine(database, workflows=[waits]) as engine:
        execution = await engine.start(waits, id="x")
    async with Client(database) as client:
        monkeypatch.setattr(client.store, "get", _breaks)
        monkeypatch.setattr(client.store, "create", _breaks)
        for asked in client.execution("x").signal(go, "on"), client.start(waits, id="y"):
            with pytest.raises(MemoryError):
                await asyncio.wait_for(asked, 10)
    assert execution.id == "x"


async def test_a_history_that_is_being_read_stays_with_its_run_when_the_next_one_begins(database, monkeypatch):
    monkeypatch.setattr("perdure.client.client.PAGE", 2)

    @workflow
    async def twice(last: bool) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
            state["last"] = last
        await go.receive()
        if not last:
            continue_as_new(True)

    async with Engine(database, workflows=[twice]) as engine:
        execution = await engine.start(twice, False, id="x")
        kinds = []
        async for event in execution.history():
            if not kinds:
                for _ in range(2):
                    await execution.signal(go, "on")
                await execution.result(timeout_s=20)
            kinds.append(event.kind)
        assert kinds == ["started", *["state_set"] * 3, "signal_received", "continued"]


async def test_a_listener_that_comes_within_a_tick_of_the_clock_is_heard(database):
    other, ringing, listening = Doorbell(database), Doorbell(database), Doorbell(database)
    other.listen("runner")
    assert ringing.ring("client") == 0
    seen = ringing.folder.stat().st_mtime_ns
    listening.listen("client")
    os.utime(ringing.folder, ns=(seen, seen))  # as where the file system's clock is coarse
    assert ringing.ring("client") == 1
    for bell in other, ringing, listening:
        bell.close()


def _breaks(*args):
    raise MemoryError
