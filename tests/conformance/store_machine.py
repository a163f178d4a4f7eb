"""Does to a store whatever a runner, its successors and clients may do, at random, and to the model the same.

Two stores stand for two processes with the database open. After every step all that either of them reads must be what
the model says.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_backends import BACKENDS, Backend
from store_model import UNFINISHED, StoreModel, fields
from store_samples import START_US

from perdure.errors import ExecutionExists, PerdureError, StaleRunner
from perdure.events import Event, Kind
from perdure.store import Batch, ExecutionRow, Filter, Parked, Purpose, Store, TimerRow
from perdure.types import Status, instant

PROCESSES = st.integers(0, 1)
ANYONE = st.integers(0, 9)
"""One of the processes; mostly the one that is the runner, if there is one."""
IDS = st.sampled_from(["a", "b", "ab", "ü"])
KEYS = st.sampled_from(["one", "two"])
LARGE = ['"' + letter * 70_000 + '"' for letter in "xy"]
DATA = st.sampled_from([None, "null", "1", '{"a":"ü"}', *LARGE])
TEXTS = st.sampled_from(["null", '"text"'])
MOMENTS = st.integers(0, 5).map(lambda n: START_US + n)
OPEN = st.sampled_from([Status.PENDING, Status.RUNNING, Status.WAITING, Status.PAUSED, Status.BLOCKED])
CLOSED_BY = {
    Status.COMPLETED: Kind.COMPLETED,
    Status.FAILED: Kind.FAILED,
    Status.CANCELLED: Kind.CANCELLED,
    Status.TERMINATED: Kind.TERMINATED,
    Status.CONTINUED: Kind.CONTINUED,
}
FAILURE = '{"type":"builtins:ValueError","message":"no"}'


class StoreMachine(RuleBasedStateMachine):
    """See the module. `backend_name` says which store; `prepare` may spoil each one that is opened."""

    backend_name = "sqlite"
    prepare: Callable[[Any], None] = staticmethod(lambda store: None)

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(prefix="perdure-machine-")
        self.backend: Backend = BACKENDS[self.backend_name](Path(self.folder.name))
        self.model = StoreModel()
        self.stores = [self._open(), self._open()]
        self.leader: int | None = None
        self.epoch = 0
        self.tally = 0
        """Rows that transactional activities have written."""

    def _open(self) -> Store:
        store = self.backend.open()
        type(self).prepare(store)
        return store

    def teardown(self) -> None:
        try:
            assert [finding for finding in self.stores[0].check(quick=False) if not finding[1]] == []
            texts = {event.data for events in self.model.events.values() for event in events}
            assert self.backend.large_payloads() == len(texts & set(LARGE))
        finally:
            for store in self.stores:
                store.close()
            self.folder.cleanup()

    # --- a runner ---------------------------------------------------------------------------------------------------

    @initialize(process=PROCESSES)
    def begin(self, process: int) -> None:
        self.become_the_runner(process)

    @rule(process=PROCESSES)
    def become_the_runner(self, process: int) -> None:
        epoch = self.stores[process].become_runner(f"process {process}")
        assert epoch > self.epoch
        self.leader, self.epoch = process, epoch

    @rule(who=ANYONE, data=st.data(), duplicate=st.integers(0, 9).map(lambda n: n == 0))
    def commit(self, who: int, data: st.DataObject, duplicate: bool) -> None:
        batch = Batch()
        for _ in range(data.draw(st.integers(0, 2))):
            self._add(batch, data.draw)
        for num in (
            data.draw(st.lists(st.sampled_from(self.model.open()), max_size=3, unique=True))
            if (self.model.open())
            else ()
        ):
            self._advance(batch, self.model.row(num), data.draw)
        batch.inbox_done = data.draw(st.lists(st.integers(1, self.model.last_n + 1), max_size=3, unique=True))
        if duplicate and batch.events:
            batch.events.append(batch.events[0])
        self._commit(self._process(who), batch)

    commit_more = commit_often = commit

    def _process(self, who: int) -> int:
        return who % 2 if who < 2 or self.leader is None else self.leader

    def _commit(self, process: int, batch: Batch) -> bool:
        """Commit a batch, or see it refused as a whole for the right reason; give whether it was written."""
        store, events = self.stores[process], batch.events
        if process != self.leader:
            with pytest.raises(StaleRunner):
                store.commit(batch)
        elif self.model.refuses(batch.executions):
            with pytest.raises(ExecutionExists):
                store.commit(batch)
        elif len({(id(row), event.seq) for row, event in events}) < len(events):
            with pytest.raises(PerdureError):
                store.commit(batch)
        else:
            store.commit(batch)
            self.model.commit(batch)
            return True
        return False

    def _add(self, batch: Batch, draw: Callable[[Any], Any]) -> ExecutionRow:
        """Put a new execution into a batch: with an id that is free, or perhaps one that is taken."""
        id = draw(IDS)
        known = [row["run"] for row in self.model.runs(id)] + [row.run for row in batch.executions if row.id == id]
        parents = [self.model.row(num) for num in self.model.rows] + batch.executions
        row = ExecutionRow(
            id,
            draw(st.sampled_from(["order", "other"])),
            draw(MOMENTS),
            run=max(known, default=0) + draw(st.sampled_from([1, 1, 1, 1, 0] if known else [1])),
            status=draw(OPEN),
            deadline_at=draw(st.none() | MOMENTS),
            deployment=draw(st.sampled_from([None, "v1"])),
            parent_row=draw(st.none() | st.sampled_from(parents)) if parents else None,
            parent_seq=1,
        )
        batch.executions.append(row)
        batch.events.append((row, Event(1, Kind.STARTED, START_US, None, row.workflow, draw(DATA))))
        return row

    def _advance(self, batch: Batch, row: ExecutionRow, draw: Callable[[Any], Any]) -> None:
        """Let something happen to an execution: some of all that a batch can hold of it."""
        seq, num = len(self.model.events[row.num]) + 1, row.num
        for _ in range(draw(st.integers(0, 3))):
            batch.events.append((row, Event(seq, Kind.STATE_SET, draw(MOMENTS), None, "one", draw(DATA))))
            seq += 1
        match draw(st.integers(0, 6)):
            case 0:
                row.status, row.ended_at = draw(st.sampled_from(list(CLOSED_BY))), draw(MOMENTS)
                text = FAILURE if row.status is Status.FAILED else "null"
                batch.events.append((row, Event(seq, CLOSED_BY[row.status], row.ended_at, None, None, text)))
                batch.statuses[row] = None
            case 1:
                row.status, row.problem, row.deployment = draw(OPEN), draw(st.none() | TEXTS), draw(st.none() | TEXTS)
                batch.statuses[row] = None
            case 2:
                batch.timers[(row, draw(MOMENTS), draw(st.integers(1, 2)), draw(st.sampled_from(Purpose)))] = None
            case 3:
                batch.timers_done += (
                    draw(st.lists(st.sampled_from(sorted(self.model.timers)), max_size=2))
                    if (self.model.timers)
                    else []
                )
            case 4:
                batch.state[(row, draw(KEYS))] = draw(st.none() | TEXTS)
            case 5:
                batch.parked.append(self._parked(row, draw))
            case 6 if draw(st.booleans()):
                batch.heartbeats[(num, draw(st.integers(1, 2)))] = (draw(st.integers(1, 3)), START_US, draw(DATA))
            case 6:
                batch.heartbeats_done.append((num, draw(st.integers(1, 2))))

    def _parked(self, row: ExecutionRow, draw: Callable[[Any], Any]) -> Parked:
        what = draw(st.sampled_from(["signal", "cancel", "event"]))
        kind = Kind.TIMER_FIRED.value if what == "event" else None
        return Parked(row, what, kind, draw(st.none() | st.integers(1, 3)), draw(st.none() | KEYS), draw(DATA))

    @rule(who=ANYONE, data=st.data(), ends=st.lists(st.booleans(), min_size=1, max_size=3), writes=st.booleans())
    def run_transactional_activities(self, who: int, data: st.DataObject, ends: list[bool], writes: bool) -> None:
        """Each ends well or raises; what those that ended well wrote goes the way of the batch."""
        process = self._process(who)
        store = self.stores[process]
        if process != self.leader:
            with pytest.raises(StaleRunner), store.savepoint():
                pytest.fail("a stale runner's activity must not run")
            return
        for ends_well in ends:
            try:
                with store.savepoint() as transaction:
                    transaction.execute("CREATE TABLE IF NOT EXISTS tally (n)")
                    transaction.execute("INSERT INTO tally VALUES (?)", (1,))
                    if not ends_well:
                        raise ValueError("undone")
            except ValueError:
                assert not ends_well
        batch = Batch()
        self._add(batch, data.draw)
        if writes and self._commit(process, batch):
            self.tally += sum(ends)
        else:
            store.rollback()
        with store.savepoint() as transaction:
            transaction.execute("CREATE TABLE IF NOT EXISTS tally (n)")
            assert transaction.execute("SELECT count(*) FROM tally") == [(self.tally,)]
        store.rollback()

    # --- anyone -----------------------------------------------------------------------------------------------------

    @rule(process=PROCESSES, data=st.data(), count=st.integers(1, 3))
    def create(self, process: int, data: st.DataObject, count: int) -> None:
        batch = Batch()
        for _ in range(count):
            self._add(batch, data.draw).status = Status.PENDING
        rows = batch.executions
        for row in rows:
            row.parent_row = row.parent_seq = None
        if self.model.refuses(rows):
            with pytest.raises(ExecutionExists):
                self.stores[process].create([(row, [event]) for row, event in batch.events])
        else:
            self.stores[process].create([(row, [event]) for row, event in batch.events])
            self.model.commit(batch)

    @rule(process=PROCESSES, data=st.data())
    def request(self, process: int, data: st.DataObject) -> None:
        if self.model.rows:
            nums = data.draw(st.lists(st.sampled_from(list(self.model.rows)), min_size=1, max_size=3))
            requests = [self._parked(self.model.row(num), data.draw) for num in nums]
            self.stores[process].request(requests)
            self.model.request(requests)

    @rule(process=PROCESSES, data=st.data())
    def delete(self, process: int, data: st.DataObject) -> None:
        nums = data.draw(st.lists(st.integers(1, self.model.last_num + 1), max_size=4, unique=True))
        assert self.stores[process].delete(nums) == self.model.delete(nums)

    @rule(process=PROCESSES, pages=st.integers(1, 50))
    def give_room_back(self, process: int, pages: int) -> None:
        self.stores[process].vacuum(pages)

    @rule(process=PROCESSES)
    def restart(self, process: int) -> None:
        self.stores[process].close()
        self.stores[process] = self._open()
        if self.leader == process:
            self.leader = None

    @rule(process=PROCESSES, data=st.data(), now=MOMENTS, limit=st.integers(1, 5))
    def look_at_parts(self, process: int, data: st.DataObject, now: int, limit: int) -> None:
        """Read what takes parameters."""
        store, model = self.stores[process], self.model
        statuses = tuple(data.draw(st.lists(st.sampled_from(Status), max_size=2, unique=True)))
        before, keep = data.draw(st.none() | MOMENTS), data.draw(st.none() | st.integers(0, 4))
        assert list(store.expired(statuses, before, keep, limit)) == model.expired(statuses, before, keep)[:limit]
        due = [timer for timer in sorted(model.timers) if timer[0] <= now]
        assert [tuple(timer) for timer in store.due_timers(now, limit)] == due[:limit]
        assert store.has_timer(TimerRow(now, 1, 1, Purpose.SLEEP)) == ((now, 1, 1, Purpose.SLEEP) in model.timers)
        after = data.draw(st.integers(0, model.last_n + 1))
        assert [row[:7] for row in store.inbox(after, limit)] == [e for e in model.inbox if e[0] > after][:limit]
        wanted = [row for row in model.with_status(*(statuses or Status)) if row["created_at"] >= now][::-1]
        found = store.list(Filter(status=statuses, created_after=instant(now), limit=limit))
        assert [(info.id, info.run, info.status) for info in found] == [
            (row["id"], row["run"], row["status"]) for row in wanted[:limit]
        ]

    # --- what must hold ---------------------------------------------------------------------------------------------

    @invariant()
    def both_read_what_was_written(self) -> None:
        for store in self.stores:
            self._compare_lists(store)
            for num in range(1, self.model.last_num + 2):
                self._compare_execution(store, num)

    def _compare_lists(self, store: Store) -> None:
        model = self.model
        assert [fields(row) for row in store.unfinished()] == model.with_status(*UNFINISHED)
        assert [fields(row) for row in store.pending(1_000)] == model.with_status(Status.PENDING)
        assert store.next_due() == min((timer[0] for timer in model.timers), default=None)
        assert [row[:7] for row in store.inbox(0, 1_000)] == model.inbox
        assert store.counts() == model.counts()
        for id in ("a", "b", "ab", "ü"):
            found = store.find(id)
            assert (fields(found) if found else None) == next(reversed(model.runs(id)), None)

    def _compare_execution(self, store: Store, num: int) -> None:
        model, found = self.model, store.get(num)
        assert (fields(found) if found else None) == model.rows.get(num)
        events = model.events.get(num, [])
        assert store.history(num) == events
        assert store.last_event(num) == (events[-1] if events else None)
        assert store.state(num) == model.state.get(num, {})
        assert [row[:7] for row in store.parked(num)] == [entry for entry in model.inbox if entry[1] == num]
        assert [fields(row) for row in store.children(num)] == model.children(num)
        for seq in (1, 2):
            assert store.heartbeat(num, seq) == model.heartbeats.get((num, seq))
        if found is not None:
            assert store.first_input(num) == model.first_input(num)
            info = store.describe(found.id, found.run)
            assert info is not None
            assert (info.status, info.events, info.problem) == (found.status, len(events), found.problem)
            parent = model.rows.get(found.parent or 0)
            assert info.parent_id == (parent["id"] if parent else None)
