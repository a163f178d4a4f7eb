"""`commit`: a batch is written whole or not at all, and by the runner only."""

from __future__ import annotations

import pytest
from store_samples import START_US, add, batch_of, end, event, row, started

from perdure.errors import ExecutionExists, StaleRunner
from perdure.events import Kind
from perdure.store import Batch, ExecutionRow, Parked, Purpose
from perdure.types import Status


def test_everything_in_a_batch_is_there_after_the_commit(runner, open_store):
    one = row("one")
    batch = batch_of(one)
    batch.events.append((one, event(2)))
    batch.timers[(one, START_US + 5, 2, Purpose.SLEEP)] = None
    batch.state[(one, "stage")] = '"packing"'
    batch.parked.append(Parked(one, "signal", None, None, "go", "true"))
    runner.commit(batch)
    again = Batch()
    again.heartbeats[(one.num, 2)] = (1, START_US, '"half"')
    runner.commit(again)

    other = open_store()
    found = other.find("one")
    assert found is not None
    assert found.num == one.num > 0
    assert [e.seq for e in other.history(one.num)] == [1, 2]
    assert [(t.due_at, t.seq) for t in other.due_timers(START_US + 5, 10)] == [(START_US + 5, 2)]
    assert other.state(one.num) == {"stage": '"packing"'}
    assert [(e.what, e.name, e.data) for e in other.parked(one.num)] == [("signal", "go", "true")]
    assert other.heartbeat(one.num, 2) == (1, '"half"')


def test_a_child_in_the_same_batch_gets_its_parents_key(runner):
    parent = row("parent")
    child = row("child", parent_row=parent, parent_seq=2)
    runner.commit(batch_of(parent, child))
    found = runner.find("child")
    assert found is not None
    assert (found.parent, found.parent_seq) == (parent.num, 2)


def test_a_batch_that_fails_leaves_nothing_behind(runner, open_store):
    one = add(runner, row("one"))
    batch = batch_of(row("two"), row("one"))  # the id is taken: the last insert fails
    batch.events.append((one, event(2)))
    batch.timers[(one, START_US, 2, Purpose.SLEEP)] = None
    batch.state[(one, "stage")] = "1"
    batch.parked.append(Parked(one, "signal", None, None, "go", "1"))
    one.status = Status.COMPLETED
    batch.statuses[one] = None
    with pytest.raises(ExecutionExists):
        runner.commit(batch)

    other = open_store()
    found = other.find("one")
    assert other.find("two") is None
    assert found is not None
    assert found.status is Status.RUNNING
    assert [e.seq for e in other.history(one.num)] == [1]
    assert other.next_due() is None
    assert other.state(one.num) == {}
    assert other.inbox(0, 10) == []


def test_a_batch_whose_last_write_fails_leaves_nothing_behind(runner, open_store):
    one = add(runner, row("one"))
    batch = Batch()
    batch.events.append((one, event(2)))
    batch.events.append((one, event(2)))  # the same seq twice
    with pytest.raises(Exception, match="UNIQUE"):
        runner.commit(batch)
    assert [e.seq for e in open_store().history(one.num)] == [1]


def test_an_event_is_never_overwritten(runner):
    one = add(runner, row("one"), data='{"first":1}')
    batch = Batch()
    batch.events.append((one, event(1, Kind.STARTED, '{"second":1}')))
    with pytest.raises(Exception, match="UNIQUE"):
        runner.commit(batch)
    assert runner.first_input(one.num) == '{"first":1}'


def test_the_runner_goes_on_after_a_failed_batch(runner):
    add(runner, row("one"))
    with pytest.raises(ExecutionExists):
        add(runner, row("one"))
    assert add(runner, row("two")).num > 0


def test_reads_of_others_never_see_half_a_batch(runner, open_store):
    other = open_store()
    one = add(runner, row("one"))
    with runner.savepoint():
        assert [e.seq for e in other.history(one.num)] == [1]
    batch = Batch()
    batch.events.append((one, event(2)))
    runner.commit(batch)
    assert [e.seq for e in other.history(one.num)] == [1, 2]


# --- one open run of an id ------------------------------------------------------------------------------------------


def _reopening(one: ExecutionRow) -> Batch:
    batch = Batch()
    batch.events.append((one, event(3, Kind.REOPENED, '{"from_seq":1}')))
    one.status, one.ended_at = Status.RUNNING, None
    batch.statuses[one] = None
    batch.reopened.append(one)
    return batch


def test_a_closed_execution_is_reopened_while_it_is_the_newest_run_of_its_id(runner, open_store):
    one = add(runner, row("one"))
    end(runner, one, Status.FAILED)
    runner.commit(_reopening(one))
    found = open_store().find("one")
    assert found is not None
    assert (found.run, found.status, found.ended_at) == (1, Status.RUNNING, None)


@pytest.mark.parametrize("how", ["created", "in the same batch", "deleted"])
def test_a_closed_execution_that_was_replaced_or_deleted_is_not_reopened(runner, open_store, how):
    one = add(runner, row("one"))
    end(runner, one, Status.FAILED)
    other, batch = open_store(), _reopening(one)
    if how == "created":
        other.create([(row("one", Status.PENDING, run=2), [started()])])
    elif how == "in the same batch":
        batch.executions.append(row("one", run=2))
    else:
        other.delete([one.num])
    with pytest.raises(ExecutionExists):
        runner.commit(batch)
    assert [e.seq for e in other.history(one.num)] == ([] if how == "deleted" else [1, 2])
    found = other.get(one.num)
    assert found is None or found.status is Status.FAILED


# --- one runner at a time -------------------------------------------------------------------------------------------


def test_each_runner_has_a_higher_epoch(open_store):
    epochs = [open_store().become_runner(f"runner {i}") for i in range(3)]
    assert epochs == sorted(set(epochs))


def test_a_runner_that_was_replaced_is_refused(runner, open_store):
    one = add(runner, row("one"))
    successor = open_store()
    successor.become_runner("the next one")
    batch = Batch()
    batch.events.append((one, event(2)))
    for _ in range(2):
        with pytest.raises(StaleRunner):
            runner.commit(batch)
    assert [e.seq for e in successor.history(one.num)] == [1]
    successor.commit(batch)
    assert [e.seq for e in successor.history(one.num)] == [1, 2]


def test_a_store_that_never_became_the_runner_may_not_commit(runner, open_store):
    with pytest.raises(StaleRunner):
        open_store().commit(batch_of(row("one")))
    assert runner.find("one") is None


def test_a_replaced_runner_becomes_the_runner_again(runner, open_store):
    open_store().become_runner("the next one")
    runner.become_runner("back again")
    assert add(runner, row("one")).num > 0


def test_a_replaced_runner_may_not_open_a_transaction_either(runner, open_store):
    successor = open_store()
    successor.become_runner("the next one")
    for _ in range(2):
        with pytest.raises(StaleRunner), runner.savepoint():
            pytest.fail("a stale runner's activity must not run")
    add(successor, row("one"))  # and the stale one holds no lock


# --- updates in a batch ---------------------------------------------------------------------------------------------


def test_a_status_with_its_end_and_problem_is_updated(runner):
    one = add(runner, row("one"))
    one.status, one.ended_at, one.problem, one.deployment = Status.BLOCKED, START_US + 9, "why", "v2"
    batch = Batch()
    batch.statuses[one] = None
    runner.commit(batch)
    found = runner.get(one.num)
    assert found is not None
    assert (found.status, found.ended_at, found.problem, found.deployment) == (
        Status.BLOCKED,
        START_US + 9,
        "why",
        "v2",
    )


def test_an_empty_batch_is_falsy_and_a_filled_one_is_not():
    batch = Batch()
    assert not batch
    batch.heartbeats_done.append((1, 1))
    assert batch


def test_a_changed_store_says_so_to_others_only(runner, open_store):
    other = open_store()
    before = other.changed()
    assert other.changed() == before
    add(runner, row("one"))
    assert other.changed() != before


def test_a_closed_store_opened_again_is_as_it_was(runner, open_store):
    one = add(runner, row("one"))
    runner.close()
    again = open_store()
    assert [e.seq for e in again.history(one.num)] == [1]
    assert again.become_runner("the next one") > 1


def test_only_the_newest_runner_is_confirmed(runner, open_store):
    runner.confirm()
    open_store().become_runner("another one")
    with pytest.raises(StaleRunner):
        runner.confirm()
