"""What the engine and clients read: rows, histories, state, timers and heartbeats."""

from __future__ import annotations

import pytest
from store_samples import START_US, add, batch_of, end, event, row

from perdure.events import Event, Kind
from perdure.store import Batch, Purpose, TimerRow
from perdure.types import Status

OPEN = [Status.PENDING, Status.RUNNING, Status.WAITING, Status.PAUSED, Status.BLOCKED]
CLOSED = [Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED, Status.CONTINUED]


def test_a_row_comes_back_as_it_was_written(runner):
    one = row(
        "one", Status.PAUSED, run=3, deadline_at=START_US + 5, deployment="v1", problem="p", parent=7, parent_seq=2
    )
    add(runner, one)
    found = runner.get(one.num)
    names = "num id run workflow status created_at ended_at parent parent_seq deadline_at deployment problem".split()
    assert {n: getattr(found, n) for n in names} == {n: getattr(one, n) for n in names}


@pytest.mark.parametrize("id", ["ü/ö 日本", "a'b\"c", "x" * 500, "%_", " "])
def test_any_text_is_an_id(runner, id):
    add(runner, row(id), row("other"))
    found = runner.find(id)
    assert found is not None
    assert found.id == id


def test_what_is_not_there_is_none_or_empty(runner):
    assert runner.find("none") is None
    assert runner.get(1) is None
    assert runner.history(1) == []
    assert runner.first_input(1) is None
    assert runner.last_event(1) is None
    assert runner.state(1) == {}
    assert runner.children(1) == []
    assert runner.heartbeat(1, 1) is None
    assert runner.next_due() is None
    assert runner.due_timers(START_US, 10) == []
    assert runner.describe("none") is None
    assert runner.events("none", None, 0, 10) == []


def test_find_gives_the_newest_run(runner):
    add(runner, row("one", Status.CONTINUED), row("one", run=2), row("one", Status.CONTINUED, run=10))
    found = runner.find("one")
    assert found is not None
    assert found.run == 10


def test_children_come_in_the_order_they_were_started_closed_ones_too(runner):
    parent = add(runner, row("parent"))
    for name in ("b", "a", "c"):
        add(runner, row(name, parent_row=parent, parent_seq=2))
    found = runner.find("a")
    assert found is not None
    end(runner, found)
    assert [(c.id, c.status.closed) for c in runner.children(parent.num)] == [("b", False), ("a", True), ("c", False)]


def test_unfinished_gives_what_a_new_runner_looks_at_oldest_first(runner):
    add(runner, *[row(status.value, status) for status in [*CLOSED, *OPEN]])
    add(runner, row("last", Status.PENDING))
    assert [r.id for r in runner.unfinished()] == ["pending", "running", "blocked", "last"]
    assert [r.id for r in runner.pending(100)] == ["pending", "last"]


# --- histories ------------------------------------------------------------------------------------------------------


def test_a_history_comes_back_in_order_whatever_the_order_of_its_writing(runner):
    one, two = row("one"), row("two")
    add(runner, one, two)
    batch = Batch()
    events = [event(seq, kind, data, ref) for seq, (kind, data, ref) in enumerate(SAMPLES, 2)]
    for made in events:
        batch.events += [(two, made), (one, made)]
    runner.commit(batch)
    assert runner.history(one.num)[1:] == events
    assert runner.history(two.num)[1:] == events
    assert runner.last_event(one.num) == events[-1]


SAMPLES = [
    (Kind.ACTIVITY_SCHEDULED, '{"a":"ü"}', None),
    (Kind.ACTIVITY_COMPLETED, "null", 2),
    (Kind.STATE_SET, None, None),
    (Kind.TIMER_STARTED, "1700000000000000", None),
    (Kind.TIMER_FIRED, None, 5),
    (Kind.COMPLETED, "[]", None),
]


def test_every_kind_of_event_can_be_kept(runner):
    one = add(runner, row("one"))
    batch = Batch()
    for seq, kind in enumerate(Kind, 2):
        batch.events.append((one, event(seq, kind)))
    runner.commit(batch)
    assert [e.kind for e in runner.history(one.num)[1:]] == list(Kind)


def test_the_first_input_is_the_started_event_also_after_an_inherited_one(runner):
    one, two = row("one"), row("two", run=2)
    batch = Batch()
    batch.executions += [one, two]
    batch.events += [
        (one, event(1, Kind.STARTED, '{"n":1}')),
        (two, event(1, Kind.INHERITED, "{}")),
        (two, Event(2, Kind.STARTED, START_US, None, "order", '{"n":2}')),
    ]
    runner.commit(batch)
    assert runner.first_input(one.num) == '{"n":1}'
    assert runner.first_input(two.num) == '{"n":2}'


def test_the_first_input_of_a_continued_execution_is_that_of_its_first_run(runner):
    runs = [
        row("one", Status.COMPLETED),
        row("one", Status.CONTINUED, run=2),  # started anew after the first had ended
        row("one", Status.CONTINUED, run=3),
        row("one", run=4),
    ]
    for made in runs:
        add(runner, made, data=f'{{"n":{made.run}}}')
    assert [runner.first_input(made.num) for made in runs] == ['{"n":1}', '{"n":2}', '{"n":2}', '{"n":2}']


# --- state ----------------------------------------------------------------------------------------------------------


def test_state_is_set_replaced_and_removed(runner):
    one, two = row("one"), row("two")
    add(runner, one, two)
    for writes in ({"a": "1", "b": "2"}, {"a": "3", "b": None, "gone": None}):
        batch = Batch()
        batch.state = {(one, key): data for key, data in writes.items()}
        runner.commit(batch)
    assert runner.state(one.num) == {"a": "3"}
    assert runner.state(two.num) == {}


# --- timers ---------------------------------------------------------------------------------------------------------


def test_due_timers_come_earliest_first_and_no_more_than_asked_for(runner):
    one, two = row("one"), row("two")
    batch = batch_of(one, two)
    for target, due, seq in ((one, 30, 2), (two, 10, 2), (one, 20, 3), (two, 20, 9), (one, 99, 4)):
        batch.timers[(target, START_US + due, seq, Purpose.SLEEP)] = None
    runner.commit(batch)
    due = runner.due_timers(START_US + 30, 10)
    assert [(t.due_at - START_US, t.execution, t.seq) for t in due] == [
        (10, two.num, 2),
        (20, one.num, 3),
        (20, two.num, 9),
        (30, one.num, 2),
    ]
    assert runner.due_timers(START_US + 30, 2) == due[:2]
    assert runner.due_timers(START_US + 9, 10) == []
    assert runner.next_due() == START_US + 10


def test_a_timer_is_due_at_its_instant_and_gone_when_it_is_done(runner):
    one = row("one")
    batch = batch_of(one)
    for purpose in Purpose:  # one instant, one seq, each purpose on its own
        batch.timers[(one, START_US, 2, purpose)] = None
    runner.commit(batch)
    assert [t.purpose for t in runner.due_timers(START_US, 10)] == list(Purpose)
    assert runner.has_timer(TimerRow(START_US, one.num, 2, Purpose.SLEEP))
    assert not runner.has_timer(TimerRow(START_US + 1, one.num, 2, Purpose.SLEEP))
    done = Batch()
    done.timers_done.append((START_US, one.num, 2, Purpose.SLEEP))
    runner.commit(done)
    assert not runner.has_timer(TimerRow(START_US, one.num, 2, Purpose.SLEEP))
    assert runner.has_timer(TimerRow(START_US, one.num, 2, Purpose.RETRY))
    assert Purpose.SLEEP not in [t.purpose for t in runner.due_timers(START_US, 10)]
    assert len(runner.due_timers(START_US, 10)) == len(Purpose) - 1


def test_a_timer_that_is_there_already_stays_one(runner):
    one = row("one")
    batch = batch_of(one)
    batch.timers[(one, START_US, 2, Purpose.SLEEP)] = None
    runner.commit(batch)
    again = Batch()
    again.timers[(one, START_US, 2, Purpose.SLEEP)] = None
    runner.commit(again)
    assert len(runner.due_timers(START_US, 10)) == 1


def test_a_timer_cancelled_in_the_batch_that_sets_it_never_existed(runner):
    one = row("one")
    batch = batch_of(one)
    batch.timers[(one, START_US, 2, Purpose.SLEEP)] = None
    batch.cancel_timer(one, START_US, 2, Purpose.SLEEP)
    runner.commit(batch)
    assert runner.next_due() is None


# --- heartbeats -----------------------------------------------------------------------------------------------------


def test_the_last_heartbeat_of_an_activity_counts(runner):
    one = add(runner, row("one"))
    for attempt, details in ((1, '"a"'), (2, '"b"'), (2, None)):
        batch = Batch()
        batch.heartbeats[(one.num, 5)] = (attempt, START_US, details)
        batch.heartbeats[(one.num, 6)] = (1, START_US, '"other"')
        runner.commit(batch)
    assert runner.heartbeat(one.num, 5) == (2, None)
    assert runner.heartbeat(one.num, 6) == (1, '"other"')
    batch = Batch()
    batch.heartbeats_done.append((one.num, 5))
    runner.commit(batch)
    assert runner.heartbeat(one.num, 5) is None
    assert runner.heartbeat(one.num, 6) is not None
