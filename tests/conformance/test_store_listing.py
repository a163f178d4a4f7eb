"""What people ask for: lists with filters and pages, descriptions, events, counts."""

from __future__ import annotations

from datetime import timedelta

import pytest
from store_samples import START_US, add, batch_of, end, event, row

from perdure.events import Kind
from perdure.store import Batch, Filter, Parked, Purpose, Store
from perdure.types import Status, instant


@pytest.fixture
def filled(runner: Store) -> Store:
    parent = add(runner, row("order-1", workflow="order", at=0))
    add(runner, row("order-2", Status.WAITING, workflow="order", at=1_000_000))
    add(runner, row("order-1/ship-2", workflow="ship", at=2_000_000, parent_row=parent, parent_seq=2))
    add(runner, row("Order-3", Status.BLOCKED, workflow="order", at=3_000_000, problem="code changed"))
    failed = add(runner, row("bill-1", workflow="bill", at=4_000_000))
    end(runner, failed, Status.FAILED, at=5_000_000)
    return runner


def ids(store: Store, **conditions) -> list[str]:
    return [info.id for info in store.list(Filter(**conditions))]


def test_without_a_filter_all_are_listed_newest_first(filled):
    assert ids(filled) == ["bill-1", "Order-3", "order-1/ship-2", "order-2", "order-1"]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"workflow": "ship"}, ["order-1/ship-2"]),
        ({"workflow": "none"}, []),
        ({"status": (Status.WAITING, Status.FAILED)}, ["bill-1", "order-2"]),
        ({"id_prefix": "order-1"}, ["order-1/ship-2", "order-1"]),
        ({"id_prefix": "Order"}, ["Order-3"]),
        ({"id_prefix": "%"}, []),
        ({"id_prefix": "order-1/ship-2 and more"}, []),
        ({"parent_id": "order-1"}, ["order-1/ship-2"]),
        ({"parent_id": "order-2"}, []),
        ({"created_after": instant(START_US + 2_000_000)}, ["bill-1", "Order-3", "order-1/ship-2"]),
        ({"created_before": instant(START_US + 1_000_000)}, ["order-1"]),
        ({"limit": 2}, ["bill-1", "Order-3"]),
        ({"workflow": "order", "status": (Status.RUNNING,), "id_prefix": "order"}, ["order-1"]),
    ],
)
def test_a_filter_keeps_what_fits_all_of_its_conditions(filled, conditions, expected):
    assert ids(filled, **conditions) == expected


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 9])
def test_pages_put_together_are_the_whole_list(filled, limit):
    seen: list[str] = []
    after = None
    while page := filled.list(Filter(after=after, limit=limit)):
        assert len(page) <= limit
        seen += [info.id for info in page]
        after = (page[-1].id, page[-1].run)
        if len(seen) == limit:  # what is created while somebody turns pages does not shift them
            add(filled, row("late"))
    assert seen == ["bill-1", "Order-3", "order-1/ship-2", "order-2", "order-1"]


def test_a_description_holds_what_a_person_asks_for(filled):
    info = filled.describe("order-1/ship-2")
    assert (info.id, info.run, info.workflow, info.status) == ("order-1/ship-2", 1, "ship", Status.RUNNING)
    assert (info.parent_id, info.events, info.ended_at, info.error) == ("order-1", 1, None, None)
    assert info.created_at == instant(START_US) + timedelta(seconds=2)
    failed = filled.describe("bill-1")
    assert failed.error == "ValueError: no"
    assert failed.ended_at == instant(START_US) + timedelta(seconds=5)
    assert filled.describe("Order-3").problem == "code changed"


def test_each_run_can_be_described_the_newest_by_default(runner):
    add(runner, row("one", Status.CONTINUED), row("one", Status.WAITING, run=2))
    assert runner.describe("one").run == 2
    assert runner.describe("one", 1).status is Status.CONTINUED
    assert runner.describe("one", 3) is None


def test_events_are_read_page_by_page(runner):
    one = add(runner, row("one"))
    batch = Batch()
    for seq in range(2, 8):
        batch.events.append((one, event(seq, Kind.ACTIVITY_COMPLETED, '{"n":1}', 1)))
    runner.commit(batch)
    page = runner.events("one", None, 2, 3)
    assert [e.seq for e in page] == [3, 4, 5]
    assert (page[0].kind, page[0].ref, page[0].name, page[0].value()) == ("activity_completed", 1, "a", {"n": 1})
    assert [e.seq for e in runner.events("one", 1, 5, 100)] == [6, 7]
    assert runner.events("one", 2, 0, 100) == []


def test_counts_are_by_status(filled):
    assert filled.counts() == {Status.RUNNING: 2, Status.WAITING: 1, Status.BLOCKED: 1, Status.FAILED: 1}


# --- the backlog ----------------------------------------------------------------------------------------------------


def test_a_store_in_order_has_no_backlog(runner):
    add(runner, row("one", Status.PAUSED))
    found = runner.backlog(START_US, START_US)
    assert (found.pending, found.running, found.requests, found.overdue, found.oldest_at) == (0, 0, 0, 0, None)
    assert (found.outside, found.backoffs) == (0, [])


def test_the_backlog_is_what_a_runner_should_have_taken(runner):
    waiting, held = row("waiting", Status.WAITING), row("held", Status.PAUSED)
    batch = batch_of(waiting, held, row("new", Status.PENDING, at=50), row("busy"))
    for target in (waiting, held):
        batch.timers[(target, START_US + 10, 2, Purpose.SLEEP)] = None
        batch.timers[(target, START_US + 90, 3, Purpose.SLEEP)] = None
        batch.parked.append(Parked(target, "signal", None, None, "a", "1"))
    runner.commit(batch)
    found = runner.backlog(START_US + 20, START_US + 1_000)
    assert (found.pending, found.running, found.requests, found.overdue) == (1, 1, 1, 1)
    assert found.oldest_at == START_US + 10


def test_only_what_neither_timer_nor_child_will_wake_waits_for_the_outside(runner):
    sleeper, parent, alone = (row(id, Status.WAITING) for id in ("sleeper", "parent", "alone"))
    batch = batch_of(sleeper, parent, alone, row("child", parent_row=parent, parent_seq=2))
    batch.timers[(sleeper, START_US + 10, 2, Purpose.SLEEP)] = None
    runner.commit(batch)
    assert runner.backlog(START_US, START_US).outside == 1


def test_long_waits_for_a_next_attempt_are_told_longest_first(runner):
    one = row("one", Status.WAITING)
    batch = batch_of(one)
    for seq, due in ((2, 500), (3, 900), (4, 100)):
        batch.events.append((one, event(seq, Kind.ACTIVITY_SCHEDULED, "{}")))
        batch.timers[(one, START_US + due, seq, Purpose.RETRY)] = None
    batch.timers[(one, START_US + 950, 5, Purpose.SLEEP)] = None
    runner.commit(batch)
    found = runner.backlog(START_US, START_US + 200).backoffs
    assert [(b.id, b.run, b.seq, b.activity, b.due_at - START_US) for b in found] == [
        ("one", 1, 3, "a", 900),
        ("one", 1, 2, "a", 500),
    ]
