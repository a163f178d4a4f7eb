"""Exploring finds planted bugs, each with the smallest schedule that shows it, and nothing in correct workflows."""

from __future__ import annotations

import asyncio

import explored_shop as shop
import pytest
from explored_shop import Bank

from perdure import Status, workflow
from perdure.testing.explore_report import ExplorationFailed
from perdure.testing.exploring import explore
from perdure.testing.fakes import SimulationError
from perdure.testing.schedule import Schedule, What


def at_a_bank(keyed=True):
    """Give what makes a run ready: a bank, a parcel service, an approval after an hour."""

    def setup(env):
        bank = Bank(keyed)
        env.fake(shop.charge, bank.charge)
        env.fake(shop.refund, bank.refund)
        env.fake(shop.ship, lambda item: f"shipped {item}")
        env.after(3600, lambda: approve(env))
        return bank

    return setup


def approve(env):
    if env.execution("explored").status is Status.WAITING:
        env.signal(shop.approved, True, to="explored")


def charged_once_or_not_at_all(outcome):
    wanted = ["1"] if outcome.status == "completed" else []
    assert outcome.world.charged == wanted, f"charged: {outcome.world.charged}"


def found(*args, **options):
    """Explore, and give the failure that there has to be."""
    options.setdefault("hash_seeds", ())
    report = explore(*args, raises=False, **options)
    assert not report.ok, report
    assert report.failure.problem is not None
    return report


# --- nothing in what is correct -------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [shop.careful, shop.plain], ids=lambda subject: subject.name)
def test_nothing_is_found_in_a_correct_saga(subject):
    report = explore(subject, "1", setup=at_a_bank(), check=charged_once_or_not_at_all, schedules=30)
    assert report.ok
    assert report.skipped == []
    assert report.hash_seeds == (1, 2)
    wanted = {what.value for what in What} | {"undisturbed", "combined"}
    assert set(report.schedules) | {"shuffle"} == wanted
    assert report.schedules["undisturbed"] == 2
    assert report.schedules["combined"] == 30


def test_nothing_is_found_in_a_parent_and_its_children():
    def setup(env):
        env.fake(shop.ship, lambda item: item.upper())

    def check(outcome):
        if outcome.status == "completed":
            assert outcome.result == ["A", "B", "C"]
            assert outcome.distinct(shop.ship) == 3

    report = explore(shop.parent, ["a", "b", "c"], setup=setup, check=check, schedules=20, hash_seeds=(1,))
    assert report.total > 50


def test_a_workflow_that_need_not_end_is_judged_when_the_time_is_over():
    def check(outcome):
        assert outcome.status in ("running", "waiting", "cancelled", "failed"), outcome.status
        if outcome.status == "waiting":
            assert outcome.distinct(shop.ship) >= 3

    options = {"check": check, "until_s": 4 * 3600, "hash_seeds": ()}
    report = explore(shop.monitor, setup=lambda env: env.fake(shop.ship, returns=""), schedules=5, **options)
    assert report.schedules["cancel"] > 3


# --- each mishap happens ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seed", "seen"),
    [
        ("crash-before@2", "+0.001s ---- crash\n+0.001s #3 attempt_failed charge (#2) attempt 1: interrupted"),
        ("crash-after@2", '+0.001s #4 activity_scheduled ship {"item":"1"}\n+0.001s ---- crash'),
        ("cancel@1", '#2 activity_scheduled charge {"order":"1"}\n+0s #3 cancel_requested'),
        ("cancel-in:charge#1", '+0.001s #3 cancel_requested "explore"\n+0.001s #4 activity_cancelled charge (#2)'),
        ("fail:charge#1", "#3 attempt_failed charge (#2) attempt 1: SimulatedFailure"),
        ("fail-after:charge#1*2", "#4 attempt_failed charge (#2) attempt 2: SimulatedFailure"),
        ("timeout:charge#1", "+1m #3 attempt_failed charge (#2) attempt 1: ActivityTimeout"),
        ("timeout-after:charge#1", "+1m #3 attempt_failed charge (#2) attempt 1: ActivityTimeout"),
        ("twice:charge#1", "charge('1') by explored, attempt 1, key explored:1:2\ncharge('1') by explored, attempt 1"),
        ("delay:charge#1", "+30.001s #3 activity_completed charge (#2)"),
        ("delay:ship#1", "+1h0.002s #5 activity_completed ship (#4)"),
        ("crash-before@2 fail:charge#1*all", "activity_failed charge (#2) SimulatedFailure"),
    ],
)
def test_a_mishap_is_seen_in_the_timeline(seed, seen):
    report = found(shop.hasty, "1", setup=at_a_bank(), seed=seed, check=lambda outcome: not outcome.schedule.mishaps)
    assert " ".join(seen.split()) in " ".join(str(report).split())


def test_under_evict_the_code_begins_anew_whenever_it_has_waited():
    begins = {}

    def check(outcome):
        begins[str(outcome.schedule)] = len(shop.began)
        shop.began.clear()

    shop.began.clear()
    explore(shop.counted, "1", setup=at_a_bank(), check=check, seed="evict", hash_seeds=())
    assert begins[""] == 2  # once, and once to replay what was recorded
    assert begins["evict"] > 2


def test_what_the_engine_says_of_mishaps_is_kept_quiet_except_for_one_schedule(caplog):
    options = {"setup": at_a_bank(), "hash_seeds": (), "raises": False}
    explore(shop.reading, "1", **options)
    assert caplog.records == []
    explore(shop.reading, "1", seed="", **options)
    assert "execution explored is blocked" in caplog.text


# --- planted bugs ---------------------------------------------------------------------------------------------------


def test_a_charge_without_idempotency_key_is_charged_twice():
    options = {"setup": at_a_bank(keyed=False), "check": charged_once_or_not_at_all}
    report = found(shop.hasty, "1", kinds=["crash-before"], **options)
    assert str(report.failure.schedule) == "crash-before@2"
    assert "charged: ['1', '1']" in report.failure.problem.message
    assert [effect.attempt for effect in report.failure.outcome.of(shop.charge)] == [1, 2]
    assert len({effect.key for effect in report.failure.outcome.of(shop.charge)}) == 1
    for kind in ("twice", "fail-after", "timeout-after"):
        report = found(shop.hasty, "1", kinds=[kind], **options)
        assert str(report.failure.schedule) == f"{kind}:charge#1"
    explore(
        shop.hasty, "1", setup=at_a_bank(), check=charged_once_or_not_at_all, hash_seeds=(),
        kinds=["crash-before", "crash-after", "twice", "evict", "delay"],
    )  # fmt: skip


def test_an_undo_step_that_is_forgotten_under_cancellation_is_found():
    report = found(shop.forgetful, "1", setup=at_a_bank(), check=charged_once_or_not_at_all)
    (mishap,) = report.failure.schedule.mishaps
    assert mishap.what in (What.CANCEL, What.CANCEL_IN)
    assert report.failure.outcome.status is Status.CANCELLED
    assert report.failure.outcome.count(shop.refund) == 0


def test_a_charge_whose_answer_was_lost_and_that_is_not_undone_is_found():
    report = found(
        shop.careless_undo, "1", setup=at_a_bank(), check=charged_once_or_not_at_all, kinds=["cancel", "cancel-in"]
    )
    assert str(report.failure.schedule) == "cancel-in:charge#1"
    assert report.failure.outcome.count(shop.charge) == 1


def test_a_result_that_depends_on_the_order_of_a_set_is_found_under_another_hash_seed():
    words = [f"word-{n}" for n in range(8)]
    report = found(shop.by_set, words, setup=at_a_bank(), kinds=[], hash_seeds=(1, 2))
    problem = report.failure.problem
    assert problem.kind == "hash seed"
    assert "under PYTHONHASHSEED=" in problem.message
    assert "activity_scheduled ship" in problem.message
    assert "explored_shop.py:" in problem.message
    assert "#2 activity_scheduled" in report.failure.outcome.timeline.replace("  ", " ")


def test_a_result_that_depends_on_the_time_is_found():
    report = found(shop.by_time, "1", setup=at_a_bank())
    assert report.failure.problem.kind == "replay"
    assert report.failure.schedule == Schedule()
    assert "expected #4 completed" in report.failure.problem.message


def test_a_race_between_activities_is_found():
    def check(outcome):
        return outcome.status != "completed" or outcome.result == ["a", "b"]

    for kind, schedule in (("delay", "delay:ship#1"), ("shuffle", "shuffle@"), ("fail", "fail:ship#1")):
        report = found(shop.racing, "1", setup=at_a_bank(), check=check, kinds=[kind])
        assert str(report.failure.schedule).startswith(schedule)
        assert report.failure.outcome.result == ["b", "a"]
    assert report.failure.problem.message == "check gave False"


def test_code_that_the_guard_refuses_is_found():
    report = found(shop.reading, "1", setup=at_a_bank())
    assert report.failure.problem.kind == "blocked"
    assert "/etc/hostname" in report.failure.problem.message


def test_an_execution_that_can_never_end_is_found():
    report = found(shop.deaf, "1", setup=at_a_bank())
    assert report.failure.problem.kind == "stuck"
    assert "waits for signal 'approved'" in report.failure.problem.message
    report = found(shop.monitor, setup=at_a_bank(), max_commits=100)
    assert report.failure.problem.kind == "endless"


def test_a_failure_that_takes_two_mishaps_is_found_and_not_cut_down_further():
    report = found(shop.fragile, "1", setup=at_a_bank(), check=charged_once_or_not_at_all, kinds=["cancel", "fail"])
    first, second = report.failure.schedule.mishaps
    assert first.what in (What.CANCEL, What.FAIL)
    assert str(second) == "fail:refund#1"
    assert report.shrinking_runs > 0


def test_undo_steps_are_disturbed_as_soon_as_a_mishap_has_led_to_them():
    tried: list[str] = []
    explore(
        shop.fragile, "1", setup=at_a_bank(), check=lambda outcome: tried.append(str(outcome.schedule)),
        kinds=["cancel", "fail"], schedules=12, hash_seeds=(),
    )  # fmt: skip
    built = [text.split() for text in tried if " " in text][:3]
    assert [words[1:] for words in built] == [["fail:refund#1*all"]] * 3, built


def test_without_a_predicate_a_crash_must_not_show_in_the_result():
    def setup(env):
        count = []
        env.fake(shop.charge, lambda order: count.append(order) or f"charge {len(count)}")
        env.fake(shop.ship, returns="")

    report = found(shop.hasty, "1", setup=setup)
    assert report.failure.problem.kind == "result"
    assert str(report.failure.schedule) == "crash-before@2"
    assert "undisturbed it completed with 'charge 1'" in report.failure.problem.message
    assert "now it completed with 'charge 2'" in report.failure.problem.message
    assert explore(shop.hasty, "1", setup=at_a_bank(), kinds=["crash-before", "twice", "cancel"], hash_seeds=()).ok


# --- telling and repeating ------------------------------------------------------------------------------------------


def test_a_failure_is_told_with_its_timeline_and_repeated_by_its_seed():
    options = {"setup": at_a_bank(keyed=False), "check": charged_once_or_not_at_all, "hash_seeds": ()}
    with pytest.raises(ExplorationFailed) as caught:
        explore(shop.hasty, "1", **options)
    text = str(caught.value)
    schedule = str(caught.value.report.failure.schedule)
    assert f'to repeat it: explore(…, seed="{schedule}")' in text
    assert "check: AssertionError: charged: ['1', '1']" in text
    assert "test_explore.py:" in text
    assert "the process dies in place of commit 2" in text
    assert "---- crash" in text
    assert "charge('1') by explored, attempt 2, key explored:1:2" in text
    again = found(shop.hasty, "1", seed=schedule, **options)
    assert again.failure.outcome.timeline == caught.value.report.failure.outcome.timeline
    assert again.total == 3  # undisturbed twice, and this one
    assert explore(shop.hasty, "1", seed="crash-after@2", **options).ok


def test_the_same_seed_draws_the_same_schedules():
    seen: dict[int, list[str]] = {}
    for number, seed in enumerate((5, 5, 6)):
        schedules = seen[number] = []

        def check(outcome, schedules=schedules):
            schedules.append(str(outcome.schedule))

        explore(shop.hasty, "1", setup=at_a_bank(), check=check, seed=seed, singles=10, schedules=10, hash_seeds=())
    assert len(seen[0]) == 22
    assert seen[0] == seen[1]
    assert seen[0] != seen[2]


def test_an_activity_fails_with_the_error_that_is_given():
    errors = []

    def check(outcome):
        if outcome.status == "failed":
            errors.append(type(outcome.error).__name__)

    explore(
        shop.hasty, "1", setup=at_a_bank(), check=check, kinds=["fail"], schedules=0, hash_seeds=(),
        errors={shop.charge: shop.Declined("no")},
    )  # fmt: skip
    assert set(errors) == {"Declined", "SimulatedFailure"}


def test_what_a_test_forgot_is_an_error_and_no_finding():
    def setup(env):
        env.fake(shop.charge, returns="r")
        env.fake(shop.ship, returns="")

    with pytest.raises(SimulationError, match="activity refund of execution explored has no fake") as caught:
        explore(shop.forgetful, "1", setup=setup, kinds=["fail"])
    assert caught.value.__notes__ == ['under the schedule "fail:charge#1*all"']


def test_workflows_that_another_interpreter_cannot_import_are_not_replayed_there():
    @workflow
    async def local(order: str) -> str:
        return await shop.ship(order)

    report = explore(local, "1", setup=at_a_bank(), kinds=["evict"], schedules=0)
    assert report.hash_seeds == ()
    assert "other hash seeds: " in report.skipped[0]
    assert "is not at the top level of a module" in report.skipped[0]


async def test_it_works_inside_a_running_loop():
    report = explore(shop.hasty, "1", setup=at_a_bank(), kinds=["crash-after"], schedules=0, hash_seeds=())
    assert report.ok
    await asyncio.sleep(0)
