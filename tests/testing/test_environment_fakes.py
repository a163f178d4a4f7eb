"""Activities in an environment: fakes, their records, and activities that run themselves."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from datetime import timedelta

import pytest

from perdure import Call, Retry, Signal, Status, activity, current_attempt, workflow
from perdure.errors import ActivityTimeout, ExecutionTimedOut, InvalidValue
from perdure.testing import Environment, SimulationError
from perdure.testing.clock import START

STEADY = Retry(attempts=3, initial_s=10, multiplier=2, jitter=False)


class Declined(Exception):
    pass


@activity(retry=STEADY, timeout_s=30)
async def charge(order: str, cents: int = 100) -> str:
    return f"real {order}"


@activity(retry=STEADY, timeout_s=30)
def refund(charge_id: str) -> str:
    return f"{charge_id} by {threading.current_thread().name}"


@activity(retry=STEADY, executor="process")
def render(order: str) -> str:
    return f"{order}, rendered"


@activity(retry=STEADY, exec=[sys.executable, "-c", "import json, sys; print(len(json.load(sys.stdin)['text']))"])
async def count(text: str) -> int:
    raise AssertionError("the program runs in its place")


@activity(transactional=True, retry=STEADY)
def enter(transaction, order: str) -> int:
    transaction.execute("CREATE TABLE IF NOT EXISTS book (entry TEXT)")
    transaction.execute("INSERT INTO book VALUES (?)", (order,))
    return transaction.execute("SELECT count(*) FROM book")[0][0]


@activity(heartbeat_timeout_s=5, retry=STEADY)
async def upload(name: str) -> str:
    raise AssertionError


@activity
async def drop(order: str) -> None:
    raise AssertionError


@activity
def nested_loop() -> int:
    async def answer() -> int:
        return 42

    return asyncio.run(answer())


@workflow
async def buy(order: str) -> str:
    return await charge(order, cents=250)


@workflow
async def buy_quickly(order: str) -> str:
    return await charge.options(timeout_s=1, retry=Retry(attempts=1))(order)


@workflow
async def buy_within(order: str, seconds: float) -> str:
    try:
        async with asyncio.timeout(seconds):
            return await charge(order)
    except TimeoutError:
        return "too late"


@workflow
def give_back(charge_id: str) -> str:
    return refund(charge_id)


@workflow
async def each_kind(order: str) -> list[str | int]:
    calls: list[Call] = [charge(order), refund.submit(order), render.submit(order), count(order), enter.submit(order)]
    return [await call for call in calls]


@workflow
async def send(name: str) -> str:
    return await upload(name)


@workflow
async def compute() -> int:
    return await nested_loop.submit()


@workflow
async def forget(order: str) -> None:
    await drop(order)


# --- outcomes -------------------------------------------------------------------------------------------------------


def test_a_fake_returns_a_value():
    with Environment([buy]) as env:
        env.fake(charge, returns="ch_1")
        assert env.start(buy, "o-1").result() == "ch_1"


def test_a_fake_without_an_outcome_returns_none():
    with Environment([forget]) as env:
        env.fake(drop)
        assert env.start(forget, "o-1").result() is None
        assert env.calls(drop)[0].outcome == "returned"


def test_a_function_gets_the_arguments_of_the_activity():
    with Environment([buy]) as env:
        env.fake(charge, lambda order, cents: f"{order} for {cents}")
        assert env.start(buy, "o-1").result() == "o-1 for 250"


def test_an_async_function_sleeps_in_virtual_time():
    async def slow(order: str, cents: int) -> str:
        await asyncio.sleep(25)
        return "at last"

    with Environment([buy]) as env:
        env.fake(charge, slow)
        assert env.start(buy, "o-1").result() == "at last"
        assert env.now == START + timedelta(seconds=25)


def test_what_a_fake_raises_is_retried_as_the_activity_says_and_then_reaches_the_workflow():
    with Environment([buy]) as env:
        env.fake(charge, raises=Declined("no funds"))
        with pytest.raises(Declined, match="no funds"):
            env.start(buy, "o-1").result()
        assert [call.at - START for call in env.calls(charge)] == [timedelta(seconds=s) for s in (0, 10, 30)]


def test_outcomes_are_given_one_by_one():
    with Environment([buy]) as env:
        env.fake(charge, outcomes=[Declined("no funds"), Declined, lambda order, cents: f"{order} paid"])
        assert env.start(buy, "o-1").result() == "o-1 paid"
        assert [(call.attempt, call.outcome) for call in env.calls()] == [(1, "raised"), (2, "raised"), (3, "returned")]


def test_too_few_outcomes_end_the_test_and_not_the_workflow():
    with Environment([buy]) as env:
        env.fake(charge, outcomes=[Declined()])
        execution = env.start(buy, "o-1")
        with pytest.raises(SimulationError, match="charge has no outcome left for attempt 2"):
            execution.result()
        assert not execution.status.closed


def test_a_fake_can_be_replaced_while_executions_run():
    with Environment([buy]) as env:
        env.fake(charge, raises=Declined)
        execution = env.start(buy, "o-1")
        env.advance(5)
        env.fake(charge, returns="ch_2")
        assert execution.result() == "ch_2"


def test_a_fake_takes_time():
    with Environment([buy]) as env:
        env.fake(charge, returns="ch_1", delay_s=29)
        assert env.start(buy, "o-1").result() == "ch_1"
        assert env.now == START + timedelta(seconds=29)


def test_the_time_limit_of_the_activity_holds_for_its_fake():
    with Environment([buy]) as env:
        env.fake(charge, returns="ch_1", delay_s=31)
        with pytest.raises(ActivityTimeout):
            env.start(buy, "o-1").result()
        assert [call.outcome for call in env.calls(charge)] == ["cancelled"] * 3


def test_options_of_one_call_hold_for_the_fake():
    with Environment([buy_quickly]) as env:
        env.fake(charge, returns="ch_1", delay_s=2)
        with pytest.raises(ActivityTimeout):
            env.start(buy_quickly, "o-1").result()
        assert env.now == START + timedelta(seconds=1)


def test_a_workflow_that_stops_waiting_cancels_the_fake():
    with Environment([buy_within]) as env:
        env.fake(charge, returns="ch_1", delay_s=20)
        assert env.start(buy_within, "o-1", 5).result() == "too late"
        assert env.calls(charge)[0].outcome == "cancelled"


def test_a_value_of_the_wrong_type_is_an_error():
    with Environment([buy]) as env:
        env.fake(charge, returns=7)
        with pytest.raises(InvalidValue, match="the result of activity charge"):
            env.start(buy, "o-1").result()


def test_a_heartbeat_keeps_a_fake_alive_and_reaches_the_next_attempt():
    seen = []

    async def slow(name: str) -> str:
        attempt = current_attempt()
        seen.append(attempt.last_details)
        for part in range(3):
            await asyncio.sleep(4)
            attempt.heartbeat(part)
        if attempt.number == 1:
            await asyncio.sleep(6)
        return name

    with Environment([send]) as env:
        env.fake(upload, slow)
        assert env.start(send, "a.txt").result() == "a.txt"
    assert seen == [None, 2]


def test_a_fake_without_heartbeats_runs_out_of_time():
    with Environment([send]) as env:
        env.fake(upload, returns="a.txt", delay_s=6)
        with pytest.raises(ActivityTimeout, match="heartbeat_timeout_s"):
            env.start(send, "a.txt").result()
        assert [call.at - START for call in env.calls(upload)] == [timedelta(seconds=s) for s in (0, 15, 40)]


def test_a_heartbeat_is_in_the_file_after_a_crash():
    async def slow(name: str) -> str:
        attempt = current_attempt()
        if attempt.number == 1:
            attempt.heartbeat("half")
            await asyncio.sleep(3)
        return str(attempt.last_details)

    with Environment([send]) as env:
        env.fake(upload, slow)
        execution = env.start(send, "a.txt")
        env.advance(2)
        env.crash()
        env.restart()
        assert execution.result() == "half"


def test_a_fake_can_be_completed_from_outside():
    tokens = []

    def later(order: str, cents: int) -> str:
        tokens.append(current_attempt().token)
        current_attempt().finish_later()

    with Environment([buy]) as env:
        env.fake(charge, later)
        execution = env.start(buy, "o-1")
        env.after(3600, lambda: env.complete(tokens[0], "ch_late"))
        assert execution.result() == "ch_late"
        assert env.now == START + timedelta(hours=1)


def test_a_fake_can_be_failed_from_outside():
    tokens = []

    def later(order: str, cents: int) -> str:
        tokens.append(current_attempt().token)
        current_attempt().finish_later()

    with Environment([buy]) as env:
        env.fake(charge, later)
        execution = env.start(buy, "o-1")
        env.fail(tokens[0], Declined("by hand"))
        with pytest.raises(Declined, match="by hand"):
            execution.result()


def test_every_kind_of_activity_can_be_faked():
    with Environment([each_kind]) as env:
        env.fake(charge, returns="a")
        env.fake(refund, returns="b")
        env.fake(render, returns="c")
        env.fake(count, returns=4)
        env.fake(enter, lambda order: 5)
        assert env.start(each_kind, "o-1").result() == ["a", "b", "c", 4, 5]
        assert {call.activity for call in env.calls()} == {"charge", "refund", "render", "count", "enter"}


def test_a_fake_of_a_def_activity_runs_on_the_thread_of_the_test():
    with Environment([give_back]) as env:
        env.fake(refund, lambda charge_id: threading.current_thread().name)
        assert env.start(give_back, "ch_1").result() == threading.current_thread().name


def test_a_fake_may_do_what_the_world_outside_does():
    approved = Signal("approved", str)

    @workflow
    async def ask(order: str) -> str:
        return f"{await charge(order)}, {await approved.receive()}"

    with Environment([ask, give_back]) as env:

        def approve(order: str, cents: int) -> str:
            env.signal(approved, "by the fake", to="order-1")
            env.start(give_back, "ch_0", id="other")
            return "ch_1"

        env.fake(charge, approve)
        env.fake(refund, returns="back")
        assert env.start(ask, "o-1", id="order-1").result() == "ch_1, by the fake"
        assert env.execution("other").result() == "back"


def test_a_failed_execution_can_be_retried_when_its_fake_works_again():
    with Environment([buy]) as env:
        env.fake(charge, raises=Declined)
        execution = env.start(buy, "o-1")
        with pytest.raises(Declined):
            execution.result()
        env.fake(charge, returns="ch_1")
        execution.retry()
        assert execution.result() == "ch_1"


def test_the_time_limit_of_an_execution_is_virtual():
    with Environment([buy]) as env:
        env.fake(charge, returns="ch_1", delay_s=20)
        with pytest.raises(ExecutionTimedOut):
            env.start(buy, "o-1", timeout_s=10).result()
        assert env.now == START + timedelta(seconds=10)


# --- records --------------------------------------------------------------------------------------------------------


def test_a_call_is_recorded_with_what_it_got_and_gave():
    with Environment([buy]) as env:
        env.fake(charge, outcomes=[Declined("no"), "ch_1"])
        env.start(buy, "o-1", id="order-1").result()
        first, second = env.calls(charge)
        assert (first.args, first.kwargs, first.execution_id) == (("o-1", 250), {}, "order-1")
        assert isinstance(first.error, Declined)
        assert (second.outcome, second.result, second.attempt) == ("returned", "ch_1", 2)
        assert first.idempotency_key == second.idempotency_key == "order-1:1:2"


# --- activities that run themselves -----------------------------------------------------------------------------------


def test_an_activity_without_a_fake_ends_the_test_with_its_name():
    with Environment([buy]) as env:
        with pytest.raises(SimulationError, match=r"charge of execution order-1 has no fake.*\n.*real=\[charge"):
            env.start(buy, "o-1", id="order-1")


def test_a_named_activity_may_run_itself():
    with Environment([buy], real=[charge]) as env:
        assert env.start(buy, "o-1").result() == "real o-1"
        assert env.calls(charge)[0].result == "real o-1"


def test_all_activities_may_run_themselves():
    with Environment([each_kind], real=True) as env:
        assert env.start(each_kind, "o-1").result() == [
            "real o-1",
            f"o-1 by {threading.current_thread().name}",
            "o-1, rendered",
            3,
            1,
        ]
        assert [call.outcome for call in env.calls()] == ["returned"] * 5
        assert env.now == START


def test_a_real_connection_is_waited_for_and_takes_no_virtual_time():
    server = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = server.accept()
        with connection:
            subprocess.run([sys.executable, "-S", "-c", ""], check=True)  # takes a while
            connection.sendall(b"hello\n")

    @activity(timeout_s=30)
    async def call() -> str:
        reader, writer = await asyncio.open_connection(*server.getsockname())
        line = await reader.readline()
        writer.close()
        return line.decode()

    @workflow
    async def talk() -> str:
        return await call()

    thread = threading.Thread(target=answer)
    thread.start()
    with server, Environment([talk], real=[call]) as env:
        assert env.start(talk).result() == "hello\n"
        assert env.now == START
    thread.join()


def test_a_def_activity_may_run_a_loop_of_its_own():
    with Environment([compute], real=[nested_loop]) as env:
        assert env.start(compute).result() == 42


def test_a_transactional_activity_runs_itself_on_the_file_of_the_environment():
    @workflow
    async def write(order: str) -> int:
        return await enter.submit(order)

    with Environment([write]) as env:
        assert [env.start(write, order).result() for order in ("a", "b")] == [1, 2]
        assert env.calls(enter)[1].result == 2


def test_an_external_program_that_fails_is_recorded():
    @activity(exec=[sys.executable, "-c", "raise SystemExit(3)"], retry=Retry(attempts=1))
    async def broken() -> None: ...

    @workflow
    async def use() -> None:
        await broken()

    with Environment([use], real=[broken]) as env:
        execution = env.start(use)
        env.run_until_idle()
        assert execution.status is Status.FAILED
        assert env.calls(broken)[0].outcome == "raised"


# --- misuse ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((charge, "ch_1"), {}, "not a function"),
        ((charge,), {"returns": 1, "raises": Declined}, "one of"),
        ((charge,), {"raises": "Declined"}, "takes an exception"),
        ((buy,), {"returns": "x"}, "takes an activity"),
    ],
)
def test_a_fake_that_makes_no_sense_is_refused(arguments, options, message):
    with Environment([buy]) as env:
        with pytest.raises(TypeError, match=message):
            env.fake(*arguments, **options)


def test_time_cannot_pass_inside_a_fake():
    with Environment([buy]) as env:
        env.fake(charge, lambda order, cents: env.advance(1))
        with pytest.raises(SimulationError, match="time cannot pass inside a fake"):
            env.start(buy, "o-1")
