"""Crashes and restarts of the process in an environment."""

from __future__ import annotations

import asyncio
from datetime import timedelta

import pytest

from perdure import Retry, Signal, Status, activity, current_attempt, workflow
from perdure.errors import AttemptInterrupted
from perdure.testing import Environment, SimulationError, Stuck
from perdure.testing.clock import START

approved = Signal("approved", bool)


@activity(retry=Retry(initial_s=10, jitter=False))
async def charge(order: str) -> str:
    raise AssertionError


@activity(retry=Retry(interruptions=0))
async def launch(order: str) -> str:
    raise AssertionError


@activity
def ship(order: str) -> str:
    raise AssertionError


@activity(transactional=True)
def enter(transaction, order: str) -> int:
    transaction.execute("CREATE TABLE IF NOT EXISTS book (entry TEXT)")
    transaction.execute("INSERT INTO book VALUES (?)", (order,))
    return transaction.execute("SELECT count(*) FROM book")[0][0]


@workflow
async def fulfil(order: str) -> str:
    charge_id = await charge(order)
    await asyncio.sleep(3600)
    if not await approved.receive():
        return "refused"
    await ship.submit(order)
    return charge_id


@workflow
def plain(order: str) -> str:
    return ship(order)


@workflow
async def family(orders: list[str]) -> list[str]:
    return await asyncio.gather(*(plain.submit(order) for order in orders))


@workflow
async def book(order: str) -> int:
    return await enter.submit(order)


@workflow
async def once(order: str) -> str:
    return await launch(order)


@workflow
async def pay(order: str) -> str:
    return await charge(order)


@pytest.fixture
def env():
    with Environment([fulfil, family, book, once, pay]) as env:
        env.fake(charge, lambda order: f"ch_{len(env.calls(charge))}")
        env.fake(ship, lambda order: f"shipped {order}")
        yield env


def test_an_execution_goes_on_after_a_crash_and_a_restart(env):
    execution = env.start(fulfil, "o")
    env.crash()
    env.restart()
    env.signal(approved, True, to=execution)
    assert execution.result() == "ch_1"
    assert len(env.calls(charge)) == len(env.calls(ship)) == 1


def test_timers_and_signals_wait_for_the_restart(env):
    execution = env.start(fulfil, "o", id="order-1")
    env.crash()
    env.signal(approved, True, to="order-1")
    env.advance(7200)
    assert execution.status is Status.WAITING
    env.restart()
    assert execution.status is Status.COMPLETED
    assert execution.info().ended_at == START + timedelta(hours=2)


def test_an_execution_that_was_started_while_the_process_is_down_begins_with_the_restart(env):
    env.crash()
    execution = env.start(pay, "o")
    assert execution.status is Status.PENDING
    env.restart()
    assert execution.result() == "ch_1"


def test_a_result_is_not_waited_for_while_the_process_is_down(env):
    execution = env.start(fulfil, "o")
    env.crash()
    with pytest.raises(Stuck, match=r"down since its crash: call restart\(\)"):
        execution.result()


def test_a_process_that_is_down_cannot_crash(env):
    env.crash()
    with pytest.raises(SimulationError, match="down already"):
        env.crash()


def test_a_crash_after_the_schedule_finds_the_activity_not_started(env):
    env.crash_after("activity_scheduled", charge)
    assert env.start(pay, "o").result() == "ch_1"
    assert len(env.calls(charge)) == 1
    assert "crash after #2 activity_scheduled charge of execution-1" in env.timeline()


def test_a_crash_before_the_result_is_recorded_runs_the_activity_again_with_the_same_key(env):
    env.crash_before("activity_completed", charge)
    assert env.start(pay, "o").result() == "ch_2"
    first, second = env.calls(charge)
    assert first.idempotency_key == second.idempotency_key
    assert (first.outcome, second.outcome, second.attempt) == ("returned", "returned", 2)


def test_a_crash_after_the_result_is_recorded_does_not_run_the_activity_again(env):
    env.crash_after("activity_completed", "charge")
    assert env.start(pay, "o").result() == "ch_1"
    assert len(env.calls(charge)) == 1


def test_a_crash_while_an_activity_runs_interrupts_it(env):
    env.fake(charge, returns="ch", delay_s=20)
    execution = env.start(pay, "o")
    env.advance(5)
    env.crash(restart_after_s=60)
    assert execution.result() == "ch"
    assert [call.outcome for call in env.calls(charge)] == ["interrupted", "returned"]
    assert env.now == START + timedelta(seconds=5 + 60 + 20)


def test_a_fake_can_crash_its_own_process(env):
    def charge_and_die(order: str) -> str:
        if current_attempt().number == 1:
            env.crash(restart_after_s=0)
        return "ch_again"

    env.fake(charge, charge_and_die)
    assert env.start(pay, "o").result() == "ch_again"
    assert [call.outcome for call in env.calls(charge)] == ["interrupted", "returned"]


def test_an_async_fake_can_crash_its_own_process(env):
    async def charge_and_die(order: str) -> str:
        await asyncio.sleep(1)
        if current_attempt().number < 3:
            env.crash(restart_after_s=0)
        return "ch_again"

    env.fake(charge, charge_and_die)
    assert env.start(pay, "o").result() == "ch_again"
    assert [call.outcome for call in env.calls(charge)] == ["interrupted", "interrupted", "returned"]


def test_an_activity_that_may_not_be_interrupted_fails_after_a_crash(env):
    env.fake(launch, returns="done", delay_s=5)
    execution = env.start(once, "o")
    env.advance(1)
    env.crash(restart_after_s=0)
    with pytest.raises(AttemptInterrupted):
        execution.result()
    assert len(env.calls(launch)) == 1


def test_what_a_dead_process_was_doing_never_shows_again(env):
    ends = []

    async def slow(order: str) -> str:
        number = current_attempt().number
        try:
            await asyncio.sleep(10)
        finally:
            ends.append(number)
        return "ch"

    env.fake(charge, slow)
    execution = env.start(pay, "o")
    env.crash(restart_after_s=0)
    assert execution.result() == "ch"
    assert ends == [2]


def test_a_transactional_activity_takes_effect_once_whatever_crashes(env):
    env.crash_before("activity_completed", enter)
    env.crash_after("activity_completed", enter)
    assert env.start(book, "o").result() == 1
    assert len(env.calls(enter)) == 2


def test_children_and_def_workflows_survive_a_crash(env):
    env.crash_after("child_completed", count=2)
    assert env.start(family, ["a", "b", "c"], id="f").result() == ["shipped a", "shipped b", "shipped c"]
    assert env.timeline("f").count("---- crash after") == 1


def test_the_event_can_be_named_by_its_number_and_execution(env):
    env.crash_after(of="second", seq=2, restart_after_s=None)
    env.start(pay, "o", id="first").result()
    env.start(pay, "o", id="second")
    with pytest.raises(Stuck):
        env.execution("second").result()
    assert [call.execution_id for call in env.calls(charge)] == ["first"]


def test_the_start_of_an_execution_can_be_the_moment_of_the_crash(env):
    env.crash_after("started", pay)
    assert env.start(pay, "o").result() == "ch_1"
    assert "crash after #1 started pay" in env.timeline()


def test_the_restart_can_be_late(env):
    env.crash_after("timer_started", restart_after_s=86_400)
    execution = env.start(fulfil, "o")
    env.signal(approved, True, to=execution, after_s=60)
    execution.result()
    assert env.now == START + timedelta(days=1)


def test_a_restart_in_order_stops_attempts_without_counting_them(env):
    env.fake(launch, returns="done", delay_s=20)
    execution = env.start(once, "o")
    env.advance(5)
    env.restart()
    assert execution.result() == "done"
    assert [call.outcome for call in env.calls(launch)] == ["cancelled", "returned"]


def test_a_restart_can_bring_other_code():
    @workflow(name="greet")
    async def one() -> str:
        return f"one, {await approved.receive()}"

    @workflow(name="greet")
    async def two() -> str:
        return f"two, {await approved.receive()}"

    with Environment([one]) as env:
        execution = env.start(one)
        env.restart([two])
        env.signal(approved, True, to=execution)
        assert execution.result() == "two, True"


def test_code_that_does_not_fit_its_history_is_reported():
    @workflow(name="change")
    async def before() -> str:
        return await charge("o")

    @workflow(name="change")
    async def after() -> str:
        return await ship.submit("o")

    with Environment([before]) as env:
        env.fake(charge, returns="ch", delay_s=10)
        execution = env.start(before)
        env.restart([after])
        with pytest.raises(Stuck, match=r"is blocked: .*\n.*expected"):
            execution.result()


def test_a_kind_of_event_that_there_is_not_is_refused(env):
    with pytest.raises(ValueError, match="activity_completed"):
        env.crash_after("activity_complete")
    with pytest.raises(ValueError, match="count"):
        env.crash_before("completed", count=0)
