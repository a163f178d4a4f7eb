"""Schedules are written and read, drawn for what there is, and cut down."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perdure import Retry, Status
from perdure.activity import ActivityOptions
from perdure.testing import schedule
from perdure.testing.disturbance import Shape
from perdure.testing.outcome import Outcome
from perdure.testing.plans import Plans
from perdure.testing.schedule import ALL, AT_COMMIT, IN_CALL, Mishap, Schedule, What
from perdure.testing.shrinking import shrink
from perdure.testing.subject import Problem, Ran

NAMES = st.text(min_size=1, max_size=8).filter(lambda text: text.isprintable()) | st.sampled_from(["charge", "a b#1*2"])
MISHAPS = st.one_of(
    st.builds(Mishap, st.sampled_from([*AT_COMMIT, What.SHUFFLE]), st.integers(0, 10_000)),
    st.builds(
        Mishap, st.sampled_from([*IN_CALL]), st.just(0), NAMES, st.integers(1, 99), st.integers(1, 9) | st.just(ALL)
    ),
    st.just(Mishap(What.EVICT)),
)
PLAIN = ActivityOptions(retry=Retry(attempts=3))


# --- text -----------------------------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(st.lists(MISHAPS, max_size=5))
def test_what_is_written_is_read_back(mishaps):
    made = Schedule.of(mishaps)
    assert Schedule.parse(str(made)) == made


def test_schedules_read_as_they_are_documented():
    text = "crash-before@5 fail:charge#1*2 fail-after:charge#1*all evict"
    read = Schedule.parse(text)
    assert set(read.mishaps) == {
        Mishap(What.CRASH_BEFORE, 5),
        Mishap(What.FAIL, 0, "charge", 1, 2),
        Mishap(What.FAIL_AFTER, 0, "charge", 1, ALL),
        Mishap(What.EVICT),
    }
    assert set(str(read).split()) == set(text.split())
    assert Schedule.parse("").kind == "undisturbed"


@pytest.mark.parametrize(
    "text", ["crash@5", "crash-before", "crash-before:charge#1", "fail@3", "fail:charge", "evict@1", "fail:charge#1*x"]
)
def test_what_is_no_schedule_is_refused(text):
    with pytest.raises(ValueError, match=r"mishap|call of an activity"):
        Schedule.parse(text)


@pytest.mark.parametrize("what", What)
def test_every_mishap_says_what_it_is(what):
    assert Mishap(what, 3, "charge", 2).describe()
    assert f"    {what.value}" in (schedule.__doc__ or "")


# --- drawing --------------------------------------------------------------------------------------------------------


def plans(kinds=tuple(What), seed=0):
    return Plans(kinds, random.Random(seed))


def test_every_commit_and_every_call_gets_each_mishap():
    shape = Shape(3, {("charge", 1): PLAIN, ("ship", 1): ActivityOptions(retry=Retry(attempts=1), timeout_s=5)})
    singles = {str(one) for one in plans().singles(shape)}
    assert singles == {
        "evict", *(f"crash-{when}@{at}" for when in ("before", "after") for at in (1, 2, 3)), "cancel@1", "cancel@2",
        *(f"{what}:charge#1{times}" for what in ("fail", "fail-after") for times in ("", "*2", "*all")),
        *(f"{what}:ship#1*all" for what in ("fail", "fail-after", "timeout", "timeout-after")),
        *(f"{what}:{call}#1" for what in ("twice", "cancel-in", "delay") for call in ("charge", "ship")),
        *(f"shuffle@{seed}" for seed in range(1, 7)),
    }  # fmt: skip


def test_an_activity_that_is_retried_for_ever_does_not_fail_for_ever():
    shape = Shape(1, {("charge", 1): ActivityOptions(retry=Retry(attempts=None))})
    singles = {str(one) for one in plans(["fail"]).singles(shape)}
    assert singles == {"fail:charge#1"}


def test_only_what_is_allowed_is_drawn_and_the_same_seed_draws_the_same():
    shape = Shape(5, {("charge", n): PLAIN for n in range(1, 4)})
    allowed = [What.CANCEL, What.TWICE]
    drawn = [[str(one.random(shape)) for _ in range(50)] for one in (plans(allowed, 7), plans(allowed, 7))]
    assert drawn[0] == drawn[1]
    found = [Schedule.parse(text) for text in drawn[0]]
    assert {mishap.what for one in found for mishap in one.mishaps} == set(allowed)
    assert {len(one) for one in found} == {2, 3, 4}


def test_what_a_schedule_opened_up_is_disturbed_on_top_of_it():
    before = Shape(4, {("charge", 1): PLAIN})
    after = Shape(6, {("charge", 1): PLAIN, ("refund", 1): PLAIN})
    cancelled = Schedule.parse("cancel@3")
    built = plans(["cancel", "fail", "crash-before"]).beyond(cancelled, after, before)
    assert all("cancel@3" in str(one).split() for one in built)
    added = {word for one in built for word in str(one).split()} - {"cancel@3"}
    crashes = {"crash-before@4", "crash-before@5", "crash-before@6"}
    assert added == {*crashes, "fail:refund#1", "fail:refund#1*2", "fail:refund#1*all"}
    assert plans().beyond(cancelled, before, before) == []


# --- cutting down ---------------------------------------------------------------------------------------------------


def judged(fails):
    """Give a function that runs nothing: a schedule fails if `fails` says so, with the kind that it gives."""
    tried = []

    def run(schedule):
        tried.append(schedule)
        kind = fails(set(str(schedule).split()))
        outcome = Outcome(schedule, Status.FAILED)
        return Ran(schedule, outcome, Shape(), [], Problem(kind, "") if kind else None)

    run.tried = tried
    return run


def cut(text, fails):
    run = judged(fails)
    return str(shrink(run(Schedule.parse(text)), run).schedule), len(run.tried)


def test_what_does_not_matter_is_dropped():
    smallest, tries = cut(
        "crash-before@5 fail:charge#1*2 evict shuffle@3", lambda words: "check" if "evict" in words else None
    )
    assert smallest == "evict"
    assert tries < 10


def test_what_matters_together_is_kept():
    both = {"evict", "twice:ship#2"}
    smallest, _ = cut("crash-after@9 evict twice:ship#2", lambda words: "check" if both <= words else None)
    assert set(smallest.split()) == both


def test_mishaps_are_made_earlier_and_milder():
    def fails(words):
        commits = [int(word.partition("@")[2]) for word in words if word.startswith("crash-before@")]
        return "check" if any(at >= 3 for at in commits) else None

    assert cut("crash-before@9 evict", fails)[0] == "crash-before@3"
    assert cut("fail:ship#4*all", lambda words: "check")[0] == "fail:ship#1"


def test_another_kind_of_failure_is_not_the_same():
    smallest, _ = cut("crash-after@1 evict", lambda words: "check" if len(words) == 2 else "stuck")
    assert set(smallest.split()) == {"crash-after@1", "evict"}


def test_cutting_down_ends():
    _, tries = cut("crash-before@9000 crash-after@9001", lambda words: "check" if len(words) == 2 else None)
    assert tries <= 201
