"""Does to a store whatever a runner, its successors and clients may do, at random, and to the model the same.

Two stores stand for two processes with the database open. After every step all that either of them reads must be what
the model says.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from store_backends import BACKENDS, Backend
from store_batches import IDS, LARGE, MOMENTS, Batches
from store_model import UNFINISHED, StoreModel, fields

from perdure.errors import ExecutionExists, PerdureError, StaleRunner
from perdure.store import Batch, Filter, Purpose, Store, TimerRow
from perdure.types import Status, instant

PROCESSES = st.integers(0, 1)
ANYONE = st.integers(0, 9)
"""One of the processes; mostly the one that is the runner, or one that becomes it."""
RANDOM = st.integers(0, 2**32 - 1).map(random.Random)
"""Draws the details of a step: hypothesis would make each of them small, and the steps few."""


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

    @rule(who=ANYONE, choose=RANDOM)
    def commit(self, who: int, choose: random.Random) -> None:
        self._commit(self._process(who), Batches(self.model, choose).draw())

    commit_more = commit_often = commit

    def _process(self, who: int) -> int:
        if who < 2:
            return who
        if self.leader is None:
            self.become_the_runner(who % 2)
        return self.leader or 0

    def _commit(self, process: int, batch: Batch) -> bool:
        """Commit a batch, or see it refused as a whole for the right reason; give whether it was written."""
        store, events = self.stores[process], batch.events
        if process != self.leader:
            with pytest.raises(StaleRunner):
                store.commit(batch)
        elif self.model.refuses(batch.executions) or self.model.refuses_to_reopen(batch):
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

    @rule(who=ANYONE, choose=RANDOM, ends=st.lists(st.booleans(), min_size=1, max_size=3), writes=st.booleans())
    def run_transactional_activities(self, who: int, choose: random.Random, ends: list[bool], writes: bool) -> None:
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
        Batches(self.model, choose).add(batch)
        if writes and self._commit(process, batch):
            self.tally += sum(ends)
        else:
            store.rollback()
        with store.savepoint() as transaction:
            transaction.execute("CREATE TABLE IF NOT EXISTS tally (n)")
            assert transaction.execute("SELECT count(*) FROM tally") == [(self.tally,)]
        store.rollback()

    # --- anyone -----------------------------------------------------------------------------------------------------

    @rule(process=PROCESSES, choose=RANDOM, count=st.integers(1, 2))
    def create(self, process: int, choose: random.Random, count: int) -> None:
        batch = Batch()
        for _ in range(count):
            row = Batches(self.model, choose).add(batch)
            row.status, row.parent_row, row.parent_seq = Status.PENDING, None, None
        created = [(row, [event]) for row, event in batch.events]
        if self.model.refuses_to_create(batch.executions):
            with pytest.raises(ExecutionExists):
                self.stores[process].create(created)
        else:
            self.stores[process].create(created)
            self.model.commit(batch)

    @rule(process=PROCESSES, choose=RANDOM, count=st.integers(1, 3))
    def request(self, process: int, choose: random.Random, count: int) -> None:
        if self.model.rows:
            rows = [self.model.row(num) for num in choose.choices(list(self.model.rows), k=count)]
            requests = [Batches(self.model, choose).parked(row) for row in rows]
            self.stores[process].request(requests)
            self.model.request(requests)

    @rule(process=PROCESSES, choose=RANDOM)
    def delete(self, process: int, choose: random.Random) -> None:
        closed = sorted(self.model.rows.keys() - self.model.open())
        nums = [choose.randint(1, self.model.last_num + 1), *choose.sample(closed, min(len(closed), 2))]
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

    @rule(process=PROCESSES, choose=RANDOM, limit=st.integers(1, 5))
    def look_at_parts(self, process: int, choose: random.Random, limit: int) -> None:
        """Read what takes parameters."""
        store, model, now = self.stores[process], self.model, choose.choice(MOMENTS)
        statuses = tuple(choose.sample(list(Status), choose.randint(0, 2)))
        before, keep = choose.choice([None, *MOMENTS]), choose.choice([None, 0, 1, 4])
        assert list(store.expired(statuses, before, keep, limit)) == model.expired(statuses, before, keep)[:limit]
        due = [timer for timer in sorted(model.timers) if timer[0] <= now]
        assert [tuple(timer) for timer in store.due_timers(now, limit)] == due[:limit]
        assert store.has_timer(TimerRow(now, 1, 1, Purpose.SLEEP)) == ((now, 1, 1, Purpose.SLEEP) in model.timers)
        after = choose.randint(0, model.last_n + 1)
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
        for id in IDS:
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
