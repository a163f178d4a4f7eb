"""What tools on top of an environment stand on: repeatable runs, orders, eviction, hooks, timelines."""

from __future__ import annotations

import asyncio
from textwrap import dedent

import pytest

from perdure import Retry, Signal, activity, execution_id, uuid4, workflow
from perdure.errors import ActivityTimeout
from perdure.testing import Environment, Fault

approved = Signal("approved", bool)


class Broken(Exception):
    pass


@activity
async def step(name: str) -> str:
    raise AssertionError


@activity(timeout_s=10, retry=Retry(attempts=3, initial_s=5, jitter=False))
async def charge(order: str) -> str:
    raise AssertionError


@activity(transactional=True, retry=Retry(attempts=2, initial_s=5, jitter=False))
def enter(transaction, order: str) -> int:
    transaction.execute("CREATE TABLE IF NOT EXISTS book (entry TEXT)")
    transaction.execute("INSERT INTO book VALUES (?)", (order,))
    return transaction.execute("SELECT count(*) FROM book")[0][0]


@activity
async def flaky() -> str:
    raise AssertionError


@workflow
async def retry() -> str:
    return await flaky()


@workflow
async def race(names: list[str]) -> list[str]:
    return [await call for call in asyncio.as_completed([step(name) for name in names])]


@workflow
async def identify() -> tuple[str, str]:
    return execution_id(), str(uuid4())


@workflow
async def child(order: str) -> str:
    return await charge(order)


@workflow
async def order(order: str) -> str:
    first = await charge(order)
    await asyncio.sleep(60)
    second = await child(order)
    await approved.receive()
    await enter.submit(order)
    return f"{first}, {second}"


@workflow
async def pay(order: str) -> str:
    return await charge(order)


@workflow
async def book(order: str) -> int:
    return await enter.submit(order)


def play(**options) -> tuple[str, list[str]]:
    """Run an execution with retries and a fan-out; give its timeline and the order in which its steps ended."""
    with Environment([race, order], **options) as env:
        env.fake(step, lambda name: name)
        env.fake(charge, outcomes=["a", Broken("no"), "b"])
        ended = env.start(race, list("abcdefgh")).result()
        env.signal(approved, True, to="order-1", after_s=3600)
        assert env.start(order, "o", id="order-1").result() == "a, b"
        return env.timeline(), ended


def test_the_same_seed_gives_the_same_timeline():
    assert play(seed=7, shuffle=True) == play(seed=7, shuffle=True)


def test_seeds_decide_the_jitter_of_retries():
    def waits(seed: int) -> list[float]:
        with Environment([retry], seed=seed) as env:
            env.fake(flaky, outcomes=[Broken(), Broken(), Broken(), "done"])
            env.start(retry).result()
            return [(call.at - env.calls()[0].at).total_seconds() for call in env.calls()]

    assert waits(1) == waits(1) != waits(2)
    assert waits(1)[0] == 0 < waits(1)[1] <= 1


def test_without_shuffling_activities_end_in_the_order_of_their_calls():
    assert play()[1] == list("abcdefgh")


def test_seeds_decide_the_order_in_which_shuffled_activities_end():
    orders = {"".join(play(seed=seed, shuffle=True)[1]) for seed in range(5)}
    assert len(orders) > 1
    assert all(sorted(order) == list("abcdefgh") for order in orders)


def test_eviction_after_every_event_changes_nothing():
    assert play(hot=0) == play()


@pytest.mark.parametrize(("hot", "passes"), [(10_000, 1), (0, 3)])
def test_with_hot_0_every_step_replays_the_history(hot, passes):
    began = []

    @workflow
    async def twice() -> None:
        began.append(execution_id())
        await asyncio.sleep(60)
        await asyncio.sleep(60)

    with Environment([twice], hot=hot, strict=False) as env:
        env.start(twice).result()
    assert len(began) == passes


def test_ids_and_what_follows_from_them_are_the_same_each_time():
    def run() -> list[tuple[str, str]]:
        with Environment([identify]) as env:
            return [env.start(identify).result() for _ in range(2)]

    assert run() == run()
    assert [id for id, _ in run()] == ["execution-1", "execution-2"]


# --- hooks ----------------------------------------------------------------------------------------------------------


def run_order(crash_at: int, before: bool) -> tuple[str, int, int]:
    """Run an order with a crash at one commit; give its result, the entries in its book, and how many commits."""
    with Environment([order, book]) as env:
        env.fake(charge, lambda order: "ch")
        env.signal(approved, True, to="order-1", after_s=120)
        commits = 0

        def on_commit(commit) -> None:
            nonlocal commits
            commits = max(commits, commit.number)
            if commit.number == crash_at and commit.before is before:
                env.crash(restart_after_s=0)

        env.on_commit = on_commit
        result = env.start(order, "o", id="order-1").result()
        env.on_commit = None
        return result, env.start(book, "x").result() - 1, commits


@pytest.mark.parametrize("before", [True, False])
def test_a_crash_at_any_commit_changes_neither_the_result_nor_what_was_written_once(before):
    _, _, commits = run_order(0, before)
    assert commits >= 6
    for number in range(1, commits + 1):
        assert run_order(number, before)[:2] == ("ch, ch", 1), f"crash at commit {number}, before: {before}"


def test_a_hook_hears_every_event_once_before_and_once_after_its_commit():
    heard: dict[bool, list[str]] = {True: [], False: []}
    with Environment([pay]) as env:
        env.fake(charge, returns="ch")
        env.on_commit = lambda commit: heard[commit.before].extend(event.kind.name for _, event in commit.events)
        env.start(pay, "o").result()
    assert heard[True] == ["ACTIVITY_SCHEDULED", "ACTIVITY_COMPLETED", "COMPLETED"]
    assert heard[False] == ["STARTED", *heard[True]]  # written by the world outside, so the process does not commit it


def test_a_hook_can_cancel_after_any_commit():
    with Environment([order]) as env:
        env.fake(charge, returns="ch")

        def on_commit(commit) -> None:
            if not commit.before and any(event.kind.name == "TIMER_STARTED" for _, event in commit.events):
                env.cancel("order-1", "now")

        env.on_commit = on_commit
        execution = env.start(order, "o", id="order-1")
        assert execution.status == "cancelled"


FAULTS = {
    "nothing": (Fault(), ["returned"], 1, 0),
    "it fails before it runs": (Fault(Broken("x"), "before"), ["raised", "returned"], 1, 5),
    "it fails after it ran": (Fault(Broken("x"), "after"), ["raised", "returned"], 2, 5),
    "it hangs before it runs": (Fault(when="before"), ["cancelled", "returned"], 1, 15),
    "it hangs after it ran": (Fault(when="after"), ["cancelled", "returned"], 2, 15),
    "it runs twice": (Fault(twice=True), ["returned"], 2, 0),
    "it is slow": (Fault(delay_s=9), ["returned"], 1, 9),
    "it is too slow": (Fault(delay_s=11), ["cancelled", "returned"], 1, 15),
}


@pytest.mark.parametrize("what", FAULTS)
def test_a_policy_decides_what_goes_wrong_with_an_attempt(what):
    fault, outcomes, effects, seconds = FAULTS[what]
    ledger = []
    with Environment([pay]) as env:
        env.fake(charge, lambda order: ledger.append(order) or "ch")
        env.on_attempt = lambda call: fault if call.attempt == 1 else None
        began = env.now
        assert env.start(pay, "o").result() == "ch"
        assert [call.outcome for call in env.calls(charge)] == outcomes
        assert (len(ledger), (env.now - began).total_seconds()) == (effects, seconds)


def test_a_policy_sees_the_limits_of_the_attempt():
    with Environment([pay]) as env:
        env.fake(charge, returns="ch")
        seen = []
        env.on_attempt = lambda call: seen.append((call.activity, call.options.timeout_s))
        env.start(pay, "o").result()
        assert seen == [("charge", 10)]


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_a_transactional_activity_wrote_is_undone_when_it_goes_wrong(when):
    with Environment([book]) as env:
        env.on_attempt = lambda call: Fault(ActivityTimeout("x"), when) if call.attempt == 1 else None
        assert env.start(book, "o").result() == 1
        assert [call.outcome for call in env.calls(enter)] == ["raised", "returned"]


# --- timelines ------------------------------------------------------------------------------------------------------


def test_a_timeline_tells_when_what_happened_with_what():
    with Environment([order]) as env:
        env.fake(charge, outcomes=[Broken("no\nfunds"), "a", "b"])
        env.signal(approved, True, to="order-1", after_s=3600)
        env.crash_before("timer_fired", restart_after_s=10)
        execution = env.start(order, "o", id="order-1")
        execution.result()
        assert execution.timeline() == dedent("""\
            order-1: order, completed, 2030-01-01 00:00:00 UTC
                       +0s    #1 started             order {"order":"o"}
                       +0s    #2 activity_scheduled  charge {"order":"o"}
                       +0s    #3 attempt_failed      charge (#2) attempt 1: Broken: no, again in 5s
                       +5s    #4 activity_completed  charge (#2) "a"
                       +5s    #5 timer_started       for 1m
                     +1m5s  ---- crash in place of #6 timer_fired of order-1
                    +1m15s    #6 timer_fired         timer (#5)
                    +1m15s    #7 child_started       child order-1/child-7
                    +1m15s    #8 child_completed     child (#7) "b"
                       +1h    #9 signal_received     approved true
                       +1h   #10 activity_scheduled  enter {"order":"o"}
                       +1h   #11 activity_completed  enter (#10) 1
                       +1h   #12 completed           "a, b\"""")


def test_a_timeline_of_everything_has_all_executions_oldest_first():
    with Environment([pay]) as env:
        env.fake(charge, raises=Broken("no"))
        for name in ("first", "second"):
            env.start(pay, name, id=name)
        env.run_until_idle()
        first, second = env.timeline().split("\n\n")
        assert first.startswith("first: pay, failed")
        assert second.splitlines()[-1].endswith("failed              Broken: no")


def test_a_timeline_has_every_run_of_an_execution():
    from perdure import continue_as_new

    @workflow
    async def count(number: int) -> int:
        await asyncio.sleep(60)
        if number < 3:
            continue_as_new(number + 1)
        return number

    with Environment([count]) as env:
        execution = env.start(count, 1, id="c")
        assert execution.result() == 3
        heads = [part.splitlines()[0] for part in execution.timeline().split("\n\n")]
        assert [head.partition(", 2030")[0] for head in heads] == [
            "c: count, continued",
            "c: count, run 2, continued",
            "c: count, run 3, completed",
        ]
