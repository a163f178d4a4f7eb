"""Retention, large payloads and `check`."""

from __future__ import annotations

import pytest
from store_samples import START_US, add, batch_of, end, event, row

from perdure.codec.payload import DecodeError, Payloads
from perdure.events import Kind
from perdure.store import Batch, Parked, Store
from perdure.types import Status

LARGE = '"' + "x" * 100_000 + '"'
CLOSED = [Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.TERMINATED, Status.CONTINUED]


def closed(store: Store, id: str, status: Status = Status.COMPLETED, at: int = 100, **more):
    made = add(store, row(id, **more))
    end(store, made, status, at)
    return made


def names(found: list[tuple[int, str]]) -> list[str]:
    return [id for _, id in found]


def test_only_closed_executions_expire(runner):
    for status in CLOSED:
        closed(runner, status.value, status)
    add(runner, *[row(s.value, s) for s in Status if not s.closed])
    assert names(runner.expired((), None, None, 100)) == [s.value for s in CLOSED]
    assert names(runner.expired((Status.FAILED, Status.RUNNING), None, None, 100)) == ["failed"]


def test_they_expire_by_age_oldest_first_within_the_limit(runner):
    for n in range(5):
        closed(runner, f"e{n}", at=100 + n)
    assert names(runner.expired((), START_US + 103, None, 100)) == ["e0", "e1", "e2"]
    assert names(runner.expired((), START_US + 103, None, 2)) == ["e0", "e1"]


@pytest.mark.parametrize(("keep", "left"), [(0, []), (1, ["e4"]), (3, ["e2", "e3", "e4"]), (5, None), (9, None)])
def test_the_newest_are_kept_by_count(runner, keep, left):
    everyone = [f"e{n}" for n in range(5)]
    for n, id in enumerate(everyone):
        closed(runner, id, at=100 + n)
    gone = names(runner.expired((), None, keep, 100))
    assert [id for id in everyone if id not in gone] == (everyone if left is None else left)


def test_a_child_is_kept_while_its_parent_is_open(runner):
    parent = add(runner, row("parent"))
    closed(runner, "child", parent_row=parent, parent_seq=2)
    assert runner.expired((), None, None, 100) == []
    end(runner, parent)
    assert names(runner.expired((), None, None, 100)) == ["parent", "child"]


def test_delete_removes_everything_of_an_execution_and_nothing_else(runner):
    one, two = row("one"), row("two")
    batch = batch_of(one, two)
    for target in (one, two):
        batch.state[(target, "k")] = "1"
        batch.parked.append(Parked(target, "signal", None, None, "a", "1"))
    runner.commit(batch)
    beats = Batch()
    beats.heartbeats = {(one.num, 5): (1, 0, "1"), (two.num, 5): (1, 0, "1")}
    runner.commit(beats)
    end(runner, one)
    assert runner.delete([one.num]) == 1
    assert runner.find("one") is None
    assert (runner.history(one.num), runner.state(one.num), runner.parked(one.num)) == ([], {}, [])
    assert runner.heartbeat(one.num, 5) is None
    assert (len(runner.history(two.num)), runner.state(two.num), len(runner.parked(two.num))) == (1, {"k": "1"}, 1)
    assert runner.heartbeat(two.num, 5) is not None


def test_delete_refuses_open_executions_and_unknown_ones(runner):
    one = add(runner, row("one"))
    done = closed(runner, "two")
    assert runner.delete([one.num, done.num, 999]) == 1
    assert runner.find("one") is not None
    assert runner.delete([]) == 0


def test_the_key_of_a_deleted_execution_is_never_given_again(runner):
    done = closed(runner, "one")
    assert runner.delete([done.num]) == 1
    assert add(runner, row("two")).num > done.num


def test_vacuum_gives_room_back_in_small_steps(runner):
    done = add(runner, row("one"))
    batch = Batch()
    for seq in range(2, 200):
        batch.events.append((done, event(seq, Kind.STATE_SET, '"' + f"{seq} " * 1_000 + '"')))
    done.status, done.ended_at = Status.COMPLETED, START_US
    batch.statuses[done] = None
    runner.commit(batch)
    runner.delete([done.num])
    first = runner.vacuum(5)
    assert first > 0
    assert runner.vacuum(5) == first - 5
    assert runner.vacuum(1_000_000) == 0


# --- large payloads -------------------------------------------------------------------------------------------------


def test_a_large_payload_comes_back_whole_and_is_kept_once(runner, backend):
    one = add(runner, row("one"), row("two"), data=LARGE)
    batch = Batch()
    batch.events.append((one, event(2, Kind.ACTIVITY_COMPLETED, LARGE, 1)))
    runner.commit(batch)
    assert [e.data for e in runner.history(one.num)] == [LARGE, LARGE]
    assert runner.first_input(one.num) == LARGE
    assert runner.last_event(one.num).data == LARGE
    assert runner.events("two", None, 0, 1)[0].data == LARGE
    assert backend.large_payloads() == 1


def test_a_large_payload_goes_with_the_last_event_that_has_it(runner, backend):
    one, two = row("one"), row("two")
    add(runner, one, two, data=LARGE)
    batch = Batch()
    batch.events.append((one, event(2, Kind.ACTIVITY_COMPLETED, LARGE, 1)))
    for done in (one, two):
        done.status, done.ended_at = Status.COMPLETED, START_US
        batch.statuses[done] = None
    runner.commit(batch)
    assert runner.delete([one.num]) == 1
    assert runner.first_input(two.num) == LARGE
    assert runner.delete([two.num]) == 1
    assert backend.large_payloads() == 0


def test_a_failed_batch_counts_no_reference(runner, backend):
    add(runner, row("one"), data=LARGE)
    batch = batch_of(row("two"), data=LARGE)
    batch.events.append((batch.executions[0], event(1)))
    with pytest.raises(Exception, match="UNIQUE"):
        runner.commit(batch)
    one = runner.find("one")
    end(runner, one)
    runner.delete([one.num])
    assert backend.large_payloads() == 0


class Reversed:
    """A codec: the bytes backwards."""

    def encode(self, plain: bytes) -> bytes:
        return b"r" + plain[::-1]

    def decode(self, stored: bytes) -> bytes:
        return stored[:0:-1]


def test_with_a_codec_every_payload_goes_through_it(open_store):
    store = open_store(Payloads(Reversed()))
    store.become_runner("the runner")
    one = add(store, row("one"), data='{"a":1}')
    batch = Batch()
    batch.events.append((one, event(2, Kind.ACTIVITY_COMPLETED, LARGE, 1)))
    batch.state[(one, "k")] = '"v"'
    batch.parked.append(Parked(one, "signal", None, None, "a", "[1]"))
    batch.heartbeats[(one.num, 2)] = (1, START_US, '"d"')
    store.commit(batch)
    assert [e.data for e in store.history(one.num)] == ['{"a":1}', LARGE]
    assert store.first_input(one.num) == '{"a":1}'
    assert store.state(one.num) == {"k": '"v"'}
    assert store.inbox(0, 10)[0].data == store.parked(one.num)[0].data == "[1]"
    assert store.heartbeat(one.num, 2) == (1, '"d"')
    plain = open_store()
    with pytest.raises(DecodeError, match="codec"):
        plain.history(one.num)
    (entry,) = plain.inbox(0, 10)  # one that cannot be read does not hide the others
    assert entry.data is None
    assert "codec" in entry.problem


# --- check ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
def test_a_sound_store_passes_every_check(runner, quick):
    add(runner, row("open"))
    closed(runner, "done")
    found = list(runner.check(quick))
    assert found
    assert all(ok for _, ok, _ in found), found


def test_a_gap_in_a_history_is_found(runner, backend):
    one = add(runner, row("broken"))
    batch = Batch()
    batch.events += [(one, event(2)), (one, event(3))]
    runner.commit(batch)
    backend.remove_event(one.num, 2)
    bad = [detail for _, ok, detail in runner.check(quick=False) if not ok]
    assert len(bad) == 1
    assert "broken" in bad[0]


@pytest.mark.parametrize("wrong", ["completed", "cancelled", "failed"])
def test_a_status_that_does_not_fit_its_history_is_found(runner, backend, wrong):
    one = add(runner, row("broken"))
    backend.set_status(one.num, wrong)
    bad = [detail for _, ok, detail in runner.check(quick=False) if not ok]
    assert len(bad) == 1
    assert "broken" in bad[0]


def test_the_wrong_kind_of_end_is_found(runner, backend):
    one = closed(runner, "broken", Status.COMPLETED)
    backend.set_status(one.num, "failed")
    bad = [detail for _, ok, detail in runner.check(quick=False) if not ok]
    assert len(bad) == 1
    assert "broken" in bad[0]
