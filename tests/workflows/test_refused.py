"""What cannot be durable is refused by an error that names the activity way, and blocks the execution, no more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from perdure import NonDeterminismError, Saga, Signal, Status, activity, state, workflow
from perdure.testing import check_replay

pytestmark = pytest.mark.filterwarnings("ignore::perdure.errors.DeterminismWarning")


@activity
async def double(n: int) -> int:
    return 2 * n


@activity
def double_in_thread(n: int) -> int:
    return 2 * n


@workflow
def plain_child() -> int:
    return 1


def _loop() -> asyncio.AbstractEventLoop:
    return asyncio.get_running_loop()


class _Protocol(asyncio.SubprocessProtocol):
    pass


async def _to_thread() -> None:
    await asyncio.to_thread(len, "abc")


async def _run_in_executor() -> None:
    await _loop().run_in_executor(None, len, "abc")


async def _subprocess() -> None:
    await asyncio.create_subprocess_exec("true")


async def _shell() -> None:
    await asyncio.create_subprocess_shell("true")


async def _connect() -> None:
    await asyncio.open_connection("127.0.0.1", 9)


async def _serve() -> None:
    await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)


async def _unix() -> None:
    await asyncio.open_unix_connection("/nowhere")


async def _add_reader() -> None:
    _loop().add_reader(0, print)


async def _add_writer() -> None:
    _loop().add_writer(1, print)


async def _add_signal_handler() -> None:
    _loop().add_signal_handler(signal.SIGUSR1, print)


async def _getaddrinfo() -> None:
    await _loop().getaddrinfo("localhost", 80)


async def _sock_recv() -> None:
    await _loop().sock_recv(None, 1)


async def _call_soon_threadsafe() -> None:
    _loop().call_soon_threadsafe(print)


async def _run_forever() -> None:
    _loop().run_forever()


ON_THE_LOOP = [
    _to_thread, _run_in_executor, _subprocess, _shell, _connect, _serve, _unix, _add_reader, _add_writer,
    _add_signal_handler, _getaddrinfo, _sock_recv, _call_soon_threadsafe, _run_forever,
]  # fmt: skip


async def _open() -> None:
    with open(__file__, encoding="utf-8") as file:
        file.read()


async def _read_text() -> None:
    Path(__file__).read_text(encoding="utf-8")


async def _socket() -> None:
    socket.socket().close()


async def _popen() -> None:
    subprocess.run(["true"], check=True)


async def _system() -> None:
    os.system("true")


async def _listdir() -> None:
    os.listdir("/")


async def _sleep() -> None:
    time.sleep(0.001)


BY_AUDIT = [_open, _read_text, _socket, _popen, _system, _listdir, _sleep]


async def _blocked(world, body) -> str:
    """Run a workflow that does `body` after an activity; give the problem that blocks it."""

    @workflow
    async def job() -> int:
        n = await double(1)
        await body()
        return n

    async with world.engine(job) as engine:
        execution = await engine.start(job, id="it")
        await world.quiet(engine)
        info = await execution.info()
        assert info.status is Status.BLOCKED
        assert info.problem is not None
        return info.problem


@pytest.mark.parametrize("body", ON_THE_LOOP, ids=lambda body: body.__name__)
async def test_what_the_loop_cannot_make_durable_is_refused(world, body):
    problem = await _blocked(world, body)
    assert "cannot be durable in a workflow" in problem
    assert "put it into an @activity" in problem


@pytest.mark.parametrize("body", BY_AUDIT, ids=lambda body: body.__name__)
async def test_side_effects_in_workflow_code_are_refused_with_their_line(world, body):
    problem = await _blocked(world, body)
    assert f"in workflow code, at {__file__}:" in problem
    way_out = "a durable timer" if body is _sleep else "write an @activity that does it"
    assert way_out in problem


async def test_refusals_inside_a_task_group_block_and_do_not_fail_the_execution(world):
    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(_open())
            group.create_task(asyncio.sleep(100))

    assert "write an @activity" in await _blocked(world, body)


async def test_refusals_in_a_nested_group_with_other_errors_block_too(world):
    async def other() -> None:
        raise ValueError("other")

    async def body() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(other())

            async def nested() -> None:
                async with asyncio.TaskGroup() as inner:
                    inner.create_task(_open())

            group.create_task(nested())

    assert "write an @activity" in await _blocked(world, body)


async def test_a_def_activity_called_without_await_names_what_to_write(world):
    async def body() -> None:
        double_in_thread(1)

    problem = await _blocked(world, body)
    assert "await double_in_thread.submit(…)" in problem


async def test_a_def_workflow_called_without_await_names_what_to_write(world):
    async def body() -> None:
        plain_child()

    assert "await plain_child.submit(…)" in await _blocked(world, body)


async def test_the_result_of_a_call_that_is_not_there_yet_cannot_be_had_without_await(world):
    async def body() -> None:
        double.submit(1).result()

    assert "await call" in await _blocked(world, body)


async def test_a_loop_that_never_waits_is_stopped(world, monkeypatch):
    monkeypatch.setattr("perdure.replay.loop.SPIN_LIMIT", 1_000)

    async def body() -> None:
        while True:
            await asyncio.sleep(0)

    assert "without waiting for anything durable" in await _blocked(world, body)


async def test_the_same_calls_are_free_outside_workflow_code(world):
    reads = []

    @activity
    def read() -> int:
        with open(__file__, encoding="utf-8") as file:
            reads.append(len(file.read()))
        thread = threading.Thread(target=_nothing)
        thread.start()
        thread.join()
        return subprocess.run(["true"], check=True).returncode

    @workflow
    async def job() -> int:
        return await read.submit()

    async with world.engine(job) as engine:
        execution = await engine.start(job)
        await world.quiet(engine)
        with open(__file__, encoding="utf-8") as file:
            assert reads == [len(file.read())]
        assert await execution.result() == 0


def _nothing() -> None:
    pass


async def test_blocked_by_a_refusal_it_goes_on_once_the_code_asks_an_activity(world):
    @workflow(name="job")
    async def careless() -> int:
        n = await double(4)
        with open(__file__, encoding="utf-8") as file:
            return n + len(file.read())

    @activity
    def size() -> int:
        with open(__file__, encoding="utf-8") as file:
            return len(file.read())

    @workflow(name="job")
    async def careful() -> int:
        n = await double(4)
        return n + await size.submit()

    async with world.engine(careless) as engine:
        execution = await engine.start(careless, id="it")
        await world.quiet(engine)
        assert (await execution.info()).status is Status.BLOCKED
        before = [event.kind async for event in execution.history()]
        assert before == ["started", "activity_scheduled"]  # what it could not take waits in the inbox
    async with world.engine(careful) as engine:
        assert await engine.execution("it", careful).result() == 8 + len(Path(__file__).read_text(encoding="utf-8"))
        events = [event async for event in engine.execution("it").history()]
        assert [event.kind for event in events].count("activity_completed") == 2
        assert [event.seq for event in events] == list(range(1, len(events) + 1))


# --- whatever the code does with it -----------------------------------------------------------------------------------

undone: list[str] = []


@activity
async def undo(what: str) -> None:
    undone.append(what)


@workflow
async def undo_all() -> None:
    undone.append("all")


async def _in_a_saga() -> None:
    async with Saga() as saga:
        saga.add(undo, "saga")
        saga.add(undo_all)
        await _open()


async def _with_finally() -> None:
    try:
        await _open()
    finally:
        await undo("finally")


async def _with_except() -> None:
    try:
        await _open()
    except Exception:
        state["undone"] = True
        await undo("except")
        raise


async def _swallowed() -> None:
    with contextlib.suppress(Exception):
        await _open()


async def _swallowed_and_gone_on() -> None:
    with contextlib.suppress(Exception):
        await _open()
    Signal("word", str).send("other", "on")
    await asyncio.gather(undo("one"), undo_all(), asyncio.sleep(1))


async def _swallowed_in_a_task() -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_swallowed())
        group.create_task(_after(undo, "task"))


async def _after(call: Callable[[str], Awaitable[None]], what: str) -> None:
    await asyncio.sleep(0)
    await call(what)


async def _tried_again_and_again() -> None:
    while True:
        with contextlib.suppress(Exception):
            await _open()
            return
        with contextlib.suppress(Exception):
            await undo("again")


async def _at_the_end() -> None:
    asyncio.get_running_loop().create_task(_cleaning_up())
    await asyncio.sleep(0)


async def _cleaning_up() -> None:
    try:
        await asyncio.Event().wait()
    finally:
        with contextlib.suppress(Exception):
            await _open()
        await undo("cleanup")


HANDLED = [
    _in_a_saga, _with_finally, _with_except, _swallowed, _swallowed_and_gone_on, _swallowed_in_a_task,
    _tried_again_and_again, _at_the_end,
]  # fmt: skip


@pytest.mark.parametrize("body", HANDLED, ids=lambda body: body.__name__)
async def test_a_refusal_is_final_whatever_the_code_does_with_it(world, body):
    """Nothing that comes after it is recorded or started, and better code fits the history."""
    undone.clear()

    @workflow(name="job")
    async def careless() -> int:
        n = await double(4)
        await body()
        return n

    @workflow(name="job")
    async def careful() -> int:
        return await double(4)

    async with world.engine(careless, undo_all) as engine:
        execution = await engine.start(careless, id="it")
        await world.quiet(engine)
        info = await execution.info()
        assert info.status is Status.BLOCKED
        assert "write an @activity that does it" in (info.problem or "")
        assert [event.kind async for event in execution.history()] == ["started", "activity_scheduled"]
    assert undone == []
    async with world.engine(careful) as engine:
        assert await engine.execution("it", careful).result(timeout_s=20) == 8


async def test_a_refusal_is_final_in_a_def_workflow_too(world):
    undone.clear()

    @workflow(name="job")
    def careless() -> int:
        n = double_in_thread(4)
        with Saga() as saga:
            saga.add(undo, "saga")
            try:
                time.sleep(0.001)
            finally:
                undo.submit("finally").result()
        return n

    @workflow(name="job")
    def careful() -> int:
        return double_in_thread(4)

    async with world.engine(careless) as engine:
        execution = await engine.start(careless, id="it")
        await world.quiet(engine)
        assert (await execution.info()).status is Status.BLOCKED
    assert undone == []
    async with world.engine(careful) as engine:
        assert await engine.execution("it", careful).result(timeout_s=20) == 8


async def test_it_is_final_in_replay_as_well(world):
    """A history goes on behind a refusal only where older code did not ask for what is refused."""

    @workflow(name="job")
    async def careful() -> int:
        return await double(await double(4))

    @workflow(name="job")
    async def careless() -> int:
        n = await double(4)
        await _swallowed()
        return await double(n)

    async with world.engine(careful) as engine:
        execution = await engine.start(careful, id="it")
        assert await execution.result(timeout_s=20) == 16
    with pytest.raises(NonDeterminismError, match="in workflow code"):
        check_replay(world.database, [careless]).raise_for_mismatch()
