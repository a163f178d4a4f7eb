"""`create`, `request` and the inbox: what processes other than the runner leave in the store."""

from __future__ import annotations

import pytest
from store_samples import START_US, add, end, row, started

from perdure.errors import ExecutionExists
from perdure.events import Event, Kind
from perdure.store import Batch, Parked
from perdure.types import Status


def created(id: str, **more):
    return row(id, Status.PENDING, **more), [started()]


def test_created_executions_are_pending_with_their_first_events(runner, open_store):
    events = [
        Event(1, Kind.INHERITED, START_US, None, None, "{}"),
        Event(2, Kind.STARTED, START_US, None, "order", "7"),
    ]
    open_store().create([created("one"), (row("two", Status.PENDING, deadline_at=START_US + 9), events)])
    assert [r.id for r in runner.pending(100)] == ["one", "two"]
    assert [r.id for r in runner.pending(1)] == ["one"]
    two = runner.find("two")
    assert two is not None
    assert two.deadline_at == START_US + 9
    assert runner.first_input(two.num) == "7"
    assert [e.seq for e in runner.history(two.num)] == [1, 2]


def test_created_rows_know_their_key(open_store):
    store = open_store()
    made = created("one")
    store.create([made])
    assert made[0].num > 0
    assert store.get(made[0].num) is not None


def test_a_taken_id_refuses_all_of_them(open_store):
    store = open_store()
    store.create([created("taken")])
    with pytest.raises(ExecutionExists):
        store.create([created("fresh"), created("taken"), created("never")])
    assert [r.id for r in store.pending(100)] == ["taken"]
    store.create([created("fresh")])
    assert [r.id for r in store.pending(100)] == ["taken", "fresh"]


def test_an_id_twice_in_one_call_refuses_both(open_store):
    store = open_store()
    with pytest.raises(ExecutionExists):
        store.create([created("one"), created("one")])
    assert store.pending(100) == []


def test_another_run_of_the_same_id_is_welcome_once_the_one_before_has_ended(runner, open_store):
    store = open_store()
    first, events = created("one")
    store.create([(first, events)])
    with pytest.raises(ExecutionExists):
        store.create([created("one", run=2)])
    end(runner, first)
    store.create([created("one", run=2)])
    found = store.find("one")
    assert found is not None
    assert found.run == 2
    with pytest.raises(ExecutionExists):
        store.create([created("one", run=1)])


def test_creating_needs_no_runner_and_stops_none(runner, open_store):
    one = add(runner, row("one"))
    open_store().create([created("two")])
    end(runner, one)  # still the runner
    assert [r.id for r in runner.pending(100)] == ["two"]


# --- the inbox ------------------------------------------------------------------------------------------------------


def test_requests_of_several_processes_come_in_the_order_of_their_commits(runner, open_store):
    one, two = row("one"), row("two")
    add(runner, one, two)
    first, second = open_store(), open_store()
    first.request([Parked(one, "signal", None, None, "a", "1"), Parked(two, "signal", None, None, "a", "2")])
    second.request([Parked(one, "cancel", None, None, None, "null")])
    first.request([Parked(one, "event", Kind.TIMER_FIRED.value, 7)])
    found = runner.inbox(0, 10)
    assert [(e.execution, e.what, e.kind, e.ref, e.name, e.data) for e in found] == [
        (one.num, "signal", None, None, "a", "1"),
        (two.num, "signal", None, None, "a", "2"),
        (one.num, "cancel", None, None, None, "null"),
        (one.num, "event", Kind.TIMER_FIRED, 7, None, None),
    ]
    assert [e.n for e in found] == sorted({e.n for e in found})


def test_the_inbox_is_read_page_by_page(runner):
    one = add(runner, row("one"))
    runner.request([Parked(one, "signal", None, None, "a", str(i)) for i in range(5)])
    seen, after = [], 0
    while page := runner.inbox(after, 2):
        assert len(page) <= 2
        seen += [e.data for e in page]
        after = page[-1].n
    assert seen == ["0", "1", "2", "3", "4"]


def test_what_was_taken_is_gone_and_its_number_never_comes_back(runner):
    one = add(runner, row("one"))
    runner.request([Parked(one, "signal", None, None, "a", "1")])
    (first,) = runner.inbox(0, 10)
    batch = Batch()
    batch.inbox_done.append(first.n)
    runner.commit(batch)
    assert runner.inbox(0, 10) == []
    runner.request([Parked(one, "signal", None, None, "a", "2")])
    assert runner.inbox(first.n, 10)[0].n > first.n


def test_parked_gives_one_executions_entries_in_order(runner):
    one, two = row("one"), row("two")
    add(runner, one, two)
    for data in ("1", "2", "3"):
        runner.request([Parked(one, "signal", None, None, "a", data), Parked(two, "signal", None, None, "a", "x")])
    batch = Batch()
    batch.parked.append(Parked(one, "event", Kind.CHILD_COMPLETED.value, 4, "child", "4"))
    runner.commit(batch)
    assert [e.data for e in runner.parked(one.num)] == ["1", "2", "3", "4"]
    assert runner.parked(one.num)[-1][3:6] == (Kind.CHILD_COMPLETED, 4, "child")
    assert runner.parked(999) == []


def test_requests_are_written_all_or_none(runner):
    one = add(runner, row("one"))
    broken = Parked(one, None)  # type: ignore[arg-type]
    with pytest.raises(Exception, match="NOT NULL"):
        runner.request([Parked(one, "signal", None, None, "a", "1"), broken])
    assert runner.inbox(0, 10) == []


def test_a_moved_entry_keeps_its_place(runner, open_store):
    one, two = add(runner, row("one"), row("two")), runner.find("two")
    asked = open_store()
    asked.request([Parked(one, "signal", None, None, "first", "1")])
    asked.request([Parked(two, "signal", None, None, "second", "2")])
    batch = Batch()
    batch.inbox_moved.append((runner.inbox(0, 10)[0].n, two))
    runner.commit(batch)
    assert runner.parked(one.num) == []
    assert [entry.name for entry in runner.parked(two.num)] == ["first", "second"]


def test_a_new_run_is_refused_while_another_one_of_its_id_is_open(runner, open_store):
    first = add(runner, row("one"))
    client = open_store()
    with pytest.raises(ExecutionExists):
        client.create([created("one", run=2)])
    end(runner, first)
    client.create([created("one", run=2)])
    assert client.find("one").run == 2
