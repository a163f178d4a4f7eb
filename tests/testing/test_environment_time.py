"""Virtual time in an environment: it passes at once, and only where a test lets it."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta

import pytest

from perdure import Signal, Status, activity, current_attempt, execution_id, now, sleep, state, workflow
from perdure.errors import DeterminismWarning, EngineClosed, NonDeterminismError, UnknownWorkflow
from perdure.testing import Environment, SimulationError, Stuck
from perdure.testing.clock import START

DAY_S = 86_400.0
approved = Signal("approved", bool)


@activity
async def poll(what: str) -> bool:
    raise AssertionError("never for real")


@activity
async def ask(what: str) -> str:
    raise AssertionError("never for real")


@workflow
async def nap(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return f"woke on {now():%Y-%m-%d}"


@workflow
def plain_nap(seconds: float) -> str:
    sleep(seconds)
    return f"woke on {now():%Y-%m-%d}"


@workflow
async def wait_for_approval() -> bool:
    state["step"] = "waiting"
    return await approved.receive()


@workflow
async def ask_someone() -> str:
    return await ask("well?")


@workflow
async def parent() -> bool:
    return await wait_for_approval()


@workflow
async def poll_until_true() -> int:
    tries = 1
    while not await poll(execution_id()):
        tries += 1
        await asyncio.sleep(60)
    return tries


@workflow
async def poll_without_pause() -> None:
    while not await poll(execution_id()):
        pass


def test_a_month_passes_at_once():
    with Environment([nap]) as env:
        assert env.start(nap, 30 * DAY_S).result() == "woke on 2030-01-31"
        assert env.now == START + timedelta(days=30)


def test_a_def_workflow_sleeps_in_virtual_time_too():
    with Environment([plain_nap]) as env:
        assert env.start(plain_nap, 30 * DAY_S).result() == "woke on 2030-01-31"


def test_no_time_passes_unless_the_test_lets_it():
    with Environment([nap]) as env:
        execution = env.start(nap, 1.0)
        assert (execution.status, env.now) == (Status.WAITING, START)
        env.advance(0.5)
        assert execution.status is Status.WAITING
        env.advance(0.5)
        assert (execution.status, env.now) == (Status.COMPLETED, START + timedelta(seconds=1))


def test_time_can_begin_anywhere():
    with Environment([nap], start_at=datetime(2000, 2, 28, tzinfo=UTC)) as env:
        assert env.start(nap, DAY_S).result() == "woke on 2000-02-29"


def test_several_executions_share_the_time():
    with Environment([nap]) as env:
        late, early = env.start(nap, 2 * DAY_S), env.start(nap, DAY_S)
        early.result()
        assert late.status is Status.WAITING
        late.result()
        assert env.now == START + timedelta(days=2)


def test_a_signal_arrives_at_its_virtual_instant():
    with Environment([wait_for_approval]) as env:
        env.signal(approved, True, to="order-1", after_s=3600)
        execution = env.start(wait_for_approval, id="order-1")
        assert execution.result() is True
        assert env.now == START + timedelta(hours=1)
        assert execution.state() == {"step": "waiting"}


def test_a_cancel_arrives_at_its_virtual_instant():
    with Environment([nap]) as env:
        execution = env.start(nap, DAY_S)
        env.cancel(execution, "enough", after_s=60)
        env.run_until_idle()
        assert execution.status is Status.CANCELLED
        assert execution.info().ended_at == START + timedelta(minutes=1)


def test_any_action_can_be_planned():
    with Environment([nap]) as env:
        env.after(60, lambda: env.start(nap, 60, id="second"))
        env.start(nap, 5, id="first").result()
        assert [info.id for info in env.list()] == ["first"]
        env.execution("second").result()
        assert env.now == START + timedelta(minutes=2)


def test_what_a_planned_action_raises_ends_the_call_that_let_time_pass():
    with Environment([nap]) as env:
        env.signal("approved", True, to="nobody", after_s=1)
        with pytest.raises(LookupError, match="nobody"):
            env.advance(10)


def test_run_until_stops_as_soon_as_the_condition_holds():
    with Environment([poll_until_true]) as env:
        env.fake(poll, returns=False)
        env.start(poll_until_true)
        env.run_until(lambda: len(env.calls(poll)) == 3)
        assert env.now == START + timedelta(minutes=2)


def test_run_until_tells_when_the_condition_can_never_hold():
    with Environment([nap]) as env:
        env.start(nap, 60).result()
        with pytest.raises(Stuck, match="nothing can happen"):
            env.run_until(lambda: False)


def test_run_until_gives_up_after_its_time_limit():
    with Environment([nap]) as env:
        env.start(nap, 60)
        with pytest.raises(TimeoutError, match="10 virtual seconds"):
            env.run_until(lambda: False, timeout_s=10)
        assert env.now == START + timedelta(seconds=10)


def test_a_result_can_have_a_time_limit():
    with Environment([nap]) as env:
        execution = env.start(nap, 60, id="sleeper")
        with pytest.raises(TimeoutError, match=r"sleeper waits for a timer at 2030-01-01 00:01:00 UTC"):
            execution.result(timeout_s=59)
        assert execution.result(timeout_s=1) == "woke on 2030-01-01"


def test_the_wall_clock_can_be_set_forward():
    with Environment([nap]) as env:
        execution = env.start(nap, DAY_S)
        env.jump(2 * DAY_S)
        assert execution.status is Status.COMPLETED


def test_the_wall_clock_can_be_set_back():
    with Environment([nap]) as env:
        execution = env.start(nap, 60)
        env.jump(-3600)
        env.advance(3600)
        assert execution.status is Status.WAITING
        assert execution.result() == "woke on 2030-01-01"


# --- what can never come --------------------------------------------------------------------------------------------


def test_the_error_names_the_signal_that_is_waited_for():
    with Environment([wait_for_approval]) as env:
        execution = env.start(wait_for_approval, id="order-1")
        with pytest.raises(Stuck, match="execution order-1 can never end: it waits for signal 'approved'"):
            execution.result()
        env.signal(approved, False, to=execution)
        assert execution.result() is False


def test_the_error_names_what_a_child_waits_for():
    with Environment([parent]) as env:
        with pytest.raises(Stuck, match=r"its child p/wait_for_approval-2, which waits for signal 'approved'"):
            env.start(parent, id="p").result()


def test_the_error_names_an_activity_that_waits_for_the_world():
    def later(what: str) -> str:
        current_attempt().finish_later()

    with Environment([ask_someone]) as env:
        env.fake(ask, later)
        with pytest.raises(Stuck, match=r"activity ask \(to be completed from outside"):
            env.start(ask_someone).result()


def test_the_error_names_an_activity_that_never_answers():
    async def hang(what: str) -> str:
        return await asyncio.get_running_loop().create_future()

    with Environment([ask_someone]) as env:
        env.fake(ask, hang)
        with pytest.raises(Stuck, match=r"activity ask \(attempt 1 has not answered\)"):
            env.start(ask_someone).result()


def test_the_error_says_when_an_execution_is_paused():
    with Environment([nap]) as env:
        execution = env.start(nap, 60)
        execution.pause()
        with pytest.raises(Stuck, match="is paused"):
            execution.result()
        execution.resume()
        execution.result()


def test_the_error_says_when_there_is_no_such_execution():
    with Environment([nap]) as env:
        with pytest.raises(Stuck, match="nobody can never end: it does not exist"):
            env.execution("nobody").result()


def test_polling_for_ever_is_an_error_and_no_hang():
    with Environment([poll_until_true], max_commits=200) as env:
        env.fake(poll, returns=False)
        with pytest.raises(SimulationError, match="200"):
            env.start(poll_until_true).result()


def test_a_loop_that_lets_no_time_pass_is_an_error_and_no_hang():
    with Environment([poll_without_pause], max_commits=200) as env:
        env.fake(poll, returns=False)
        with pytest.raises(SimulationError, match="more than 200 commits"):
            env.start(poll_without_pause).result()


# --- opening and closing --------------------------------------------------------------------------------------------


def test_the_temporary_file_is_gone_afterwards():
    with Environment([nap]) as env:
        path = env.path
        assert path.exists()
    assert not path.parent.exists()


def test_a_given_database_stays_and_another_environment_goes_on_with_it(database):
    with Environment([nap], database=database) as env:
        env.start(nap, 60, id="sleeper")
    with Environment([nap], database=database) as env:
        assert env.execution("sleeper", nap).result() == "woke on 2030-01-01"
        assert env.start(nap, 1).id == "execution-1"
    with Environment([nap], database=database) as env:
        assert env.start(nap, 1).id == "execution-2"


def test_a_database_that_another_process_runs_is_refused(database):
    with Environment([nap], database=database):
        with (
            pytest.raises(SimulationError, match="another process is its runner"),
            Environment([nap], database=database),
        ):
            pass


def test_a_closed_environment_says_so():
    env = Environment([nap])
    for use in (lambda: env.start(nap, 1), lambda: env.advance(1), env.crash, env.timeline, lambda: env.path):
        with pytest.raises(EngineClosed, match="not open"):
            use()


def test_an_environment_is_opened_once():
    env = Environment([nap])
    with env, pytest.raises(SimulationError, match="opened before"), env:
        pass
    with pytest.raises(SimulationError, match="opened before"), env:
        pass


def test_code_that_is_not_deterministic_is_refused_unless_it_is_told_not_to():
    with pytest.warns(DeterminismWarning):

        @workflow
        async def dice() -> float:
            return time.time()

    with pytest.raises(NonDeterminismError, match=r"time\.time"):
        Environment([dice])
    with Environment([dice], strict=False) as env:
        assert env.start(dice).result() > 0


def test_a_workflow_that_it_was_not_given_is_refused():
    with Environment([nap]) as env:
        with pytest.raises(UnknownWorkflow):
            env.start(parent)


async def test_it_works_inside_a_coroutine():
    with Environment([nap]) as env:
        assert env.start(nap, 30 * DAY_S).result() == "woke on 2030-01-31"
    await asyncio.sleep(0)
