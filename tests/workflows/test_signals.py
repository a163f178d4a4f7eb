"""Signals: typed, buffered, in order, and none lost, whenever they are sent and however they are waited for."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

import pytest

from perdure import Client, Signal, activity, continue_as_new, execution_id, workflow
from perdure.errors import ExecutionClosed, ExecutionNotFound, InvalidValue


@dataclass
class Approval:
    by: str
    amount: int


number = Signal("number", int)
approval = Signal("approval", Approval)
other = Signal("other", str)


@activity
async def double(n: int) -> int:
    return 2 * n


def send(*values):
    async def step(execution) -> None:
        for value in values:
            await execution.signal(number, value)

    return step


@workflow
async def collect(count: int, pause_s: float = 0) -> list[int]:
    taken = []
    for _ in range(count):
        taken.append(await number.receive())
        if pause_s:
            await asyncio.sleep(pause_s)
    return taken


async def test_signals_are_received_in_the_order_sent(play):
    assert (await play(collect, 5, script=[send(1), send(2, 3), send(4, 5)])).result == [1, 2, 3, 4, 5]


async def test_signals_wait_until_they_are_received(play):
    script = [send(1, 2, 3), None, send(4, 5), None]
    assert (await play(collect, 5, 60, script=script)).result == [1, 2, 3, 4, 5]


async def test_signals_sent_before_the_first_receive_are_kept(play):
    @workflow
    async def job() -> list[int]:
        await asyncio.sleep(3_600)
        return [await number.receive(), await number.receive()]

    assert (await play(job, script=[send(1), send(2)])).result == [1, 2]


async def test_each_name_has_its_own_buffer(play):
    @workflow
    async def job() -> list[object]:
        return [await other.receive(), await number.receive(), await other.receive()]

    script = [send(1), lambda it: it.signal(other, "a"), lambda it: it.signal("other", "b")]
    assert (await play(job, script=script)).result == ["a", 1, "b"]


async def test_values_arrive_as_their_type(play):
    @workflow
    async def job() -> str:
        value = await approval.receive()
        return f"{type(value).__name__} {value.by} {value.amount}"

    script = [lambda it: it.signal(approval, Approval("ann", 5))]
    assert (await play(job, script=script)).result == "Approval ann 5"


async def test_a_value_of_the_wrong_type_is_refused_where_it_is_sent(world):
    async with world.engine(collect) as engine:
        execution = await engine.start(collect, 1)
        with pytest.raises(InvalidValue, match="number"):
            await execution.signal(number, "text")
        await execution.signal(number, 1)
        assert await execution.result() == [1]


@pytest.mark.parametrize("nap", [0, 60])  # received at once, or taken from the mailbox later
async def test_a_value_sent_by_name_that_does_not_fit_is_put_aside_and_told(play, nap, caplog):
    @workflow
    async def job() -> int:
        if nap:
            await asyncio.sleep(nap)
        return await number.receive()

    script = [lambda it: it.signal("number", "text"), send(2)]
    assert (await play(job, script=script)).result == 2
    assert "put aside a value that does not fit: signal number" in caplog.text


async def test_two_receivers_are_served_in_turn(play):
    @workflow
    async def job() -> list[int]:
        return list(await asyncio.gather(number.receive(), number.receive(), collect_two()))[0:2]

    async def collect_two() -> list[int]:
        return [await number.receive(), await number.receive()]

    assert (await play(job, script=[send(1), send(2, 3, 4)])).result == [1, 2]


async def test_a_cancelled_receive_loses_nothing(play):
    @workflow
    async def job() -> list[object]:
        seen: list[object] = []
        for _ in range(3):
            try:
                seen.append(await asyncio.wait_for(number.receive(), 10))
            except TimeoutError:
                seen.append("timeout")
        call = number.receive()
        call.cancel()
        task = asyncio.create_task(collect_one())
        await asyncio.sleep(1)
        task.cancel()
        await asyncio.sleep(1)
        return [*seen, await number.receive(), await number.receive()]

    async def collect_one() -> int:
        return await number.receive()

    script = [None, send(1), None, None, None, send(2, 3)]
    assert (await play(job, script=script)).result == ["timeout", 1, "timeout", 2, 3]


async def test_receiving_works_under_wait_with_a_deadline(play):
    @workflow
    async def job() -> list[object]:
        seen: list[object] = []
        receiving = number.receive()
        while len(seen) < 5:
            done, _ = await asyncio.wait({receiving}, timeout=10)
            if done:
                seen.append(receiving.result())
                receiving = number.receive()
            else:
                seen.append("idle")
        receiving.cancel()
        return seen

    script = [send(1), None, send(2, 3), None]
    assert (await play(job, script=script)).result == [1, "idle", 2, 3, "idle"]


async def test_a_receive_races_other_work_under_wait(play):
    @workflow
    async def job() -> list[object]:
        stop, seen = other.receive(), []
        while True:
            value = number.receive()
            await asyncio.wait({stop, value}, return_when=asyncio.FIRST_COMPLETED)
            if value.done():
                seen.append(await double(value.result()))
            else:
                value.cancel()
            if stop.done():
                return [*seen, stop.result(), await number.receive()]

    script = [send(1), send(2), lambda it: it.signal(other, "stop"), send(3)]
    assert (await play(job, script=script)).result == [2, 4, "stop", 3]


async def test_a_workflow_sends_signals_to_others_and_to_itself(play):
    @workflow
    async def receiver() -> list[int]:
        return [await number.receive(), await number.receive()]

    @workflow
    async def job() -> list[object]:
        call = receiver.options(id="receiver").submit()
        number.send("receiver", 1)
        await asyncio.sleep(1)
        number.send("receiver", 2)
        number.send(execution_id(), 3)
        return [await call, await number.receive()]

    assert (await play(job, also=[receiver])).result == [[1, 2], 3]


async def test_a_signal_from_a_workflow_to_nobody_is_dropped_with_a_warning(play, caplog):
    @workflow
    async def job() -> str:
        number.send("nobody", 1)
        await asyncio.sleep(1)
        return "went on"

    with caplog.at_level(logging.WARNING, "perdure"):
        assert (await play(job)).result == "went on"
    assert "signal number from it to nobody is lost" in caplog.text


async def test_signals_to_what_is_not_there_or_has_ended_are_refused(world):
    @workflow
    async def job() -> None:
        pass

    async with world.engine(job) as engine:
        with pytest.raises(ExecutionNotFound, match="nobody"):
            await engine.execution("nobody").signal(number, 1)
        execution = await engine.start(job, id="it")
        await execution.result()
        with pytest.raises(ExecutionClosed, match="it has ended"):
            await execution.signal(number, 1)


async def test_signals_sent_at_once_all_arrive(world):
    async with world.engine(collect) as engine:
        execution = await engine.start(collect, 500)
        await asyncio.gather(*(execution.signal(number, n) for n in range(500)))
        assert await execution.result() == list(range(500))


async def test_signals_sent_from_a_client_while_no_engine_runs_arrive_in_order(world):
    async with world.engine(collect) as engine:
        await engine.start(collect, 6, id="it")
        await engine.execution("it").signal(number, 0)
    async with Client(world.database, now=lambda: world.now_us) as client:
        for n in range(1, 6):
            await client.execution("it").signal(number, n)
    async with world.engine(collect) as engine:
        assert await engine.execution("it", collect).result() == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("hot", [10_000, 0])
async def test_signals_that_meet_a_continuing_run_go_to_the_next(world, hot):
    @workflow
    async def job(taken: list[int]) -> list[int]:
        taken = [*taken, await number.receive()]
        if len(taken) < 100:
            continue_as_new(taken)
        return taken

    async with world.engine(job, hot=hot) as engine:
        execution = await engine.start(job, [], id="it")
        await asyncio.gather(*(execution.signal(number, n) for n in range(50)))
        await world.quiet(engine)
    async with Client(world.database, now=lambda: world.now_us) as client:
        await asyncio.gather(*(client.execution("it").signal(number, n) for n in range(50, 100)))
    async with world.engine(job, hot=hot) as engine:
        assert await engine.execution("it", job).result() == list(range(100))
