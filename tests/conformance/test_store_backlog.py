"""What waits for a runner, and what waits for the world."""

from __future__ import annotations

from store_samples import START_US, add, batch_of, event, row

from perdure.events import Kind
from perdure.store import Parked, Purpose, Store
from perdure.store.rows import Backoff
from perdure.types import Status

LATER = START_US + 1_000_000


def test_nothing_waits_in_a_new_store(runner: Store) -> None:
    assert runner.backlog(LATER, LATER) == (0, 0, 0, 0, None, 0, [])


def test_work_that_is_due_is_counted_with_the_oldest_instant(runner: Store) -> None:
    busy, sleeper = row("busy"), row("sleeper", Status.WAITING)
    batch = batch_of(row("new", Status.PENDING, at=700), busy, sleeper)
    batch.timers[(sleeper, START_US + 500, 2, Purpose.SLEEP)] = None
    batch.timers[(busy, LATER + 1, 2, Purpose.SLEEP)] = None
    runner.commit(batch)
    assert runner.backlog(LATER, LATER)[:5] == (1, 1, 0, 1, START_US + 500)
    runner.request([Parked(sleeper, "signal", None, None, "approved", "true")])
    assert runner.backlog(LATER, LATER).requests == 1


def test_what_a_paused_or_blocked_execution_holds_back_is_not_due(runner: Store) -> None:
    paused, blocked = row("paused", Status.PAUSED), row("blocked", Status.BLOCKED, problem="code changed")
    batch = batch_of(paused, blocked)
    batch.timers[(paused, START_US, 2, Purpose.SLEEP)] = None
    runner.commit(batch)
    runner.request([Parked(blocked, "signal", None, None, "approved", "true")])
    assert runner.backlog(LATER, LATER) == (0, 0, 0, 0, None, 0, [])


def test_executions_that_only_the_world_can_wake(runner: Store) -> None:
    sleeper, parent = row("sleeper", Status.WAITING), row("parent", Status.WAITING)
    batch = batch_of(sleeper, parent, row("asking", Status.WAITING), row("child", parent_row=parent, parent_seq=2))
    batch.timers[(sleeper, LATER, 2, Purpose.SLEEP)] = None
    runner.commit(batch)
    assert runner.backlog(START_US, LATER).outside == 1


def test_long_waits_for_a_next_attempt_are_named_longest_first(runner: Store) -> None:
    one = add(runner, row("one", Status.WAITING))
    batch = batch_of()
    batch.events += [(one, event(seq, Kind.ACTIVITY_SCHEDULED)) for seq in (2, 3, 4)]
    for seq, due_at in ((2, LATER - 1), (3, LATER + 1), (4, LATER + 2)):
        batch.timers[(one, due_at, seq, Purpose.RETRY)] = None
    runner.commit(batch)
    assert runner.backlog(START_US, LATER).backoffs == [
        Backoff("one", 1, 4, "a", LATER + 2),
        Backoff("one", 1, 3, "a", LATER + 1),
    ]
