"""Batches, drawn at random, such as a runner could write where the model says what is there."""

from __future__ import annotations

import random

from store_model import StoreModel
from store_samples import START_US

from perdure.events import Event, Kind
from perdure.store import Batch, ExecutionRow, Parked, Purpose
from perdure.types import Status

IDS = ("a", "b", "ab", "ü")
KEYS = ("one", "two")
LARGE = tuple('"' + letter * 70_000 + '"' for letter in "xy")
DATA = (None, "null", "1", '{"a":"ü"}', *LARGE)
TEXTS = (None, "null", '"text"')
MOMENTS = tuple(START_US + n for n in range(6))
OPEN = tuple(status for status in Status if not status.closed)
CLOSED_BY = {
    Status.COMPLETED: Kind.COMPLETED,
    Status.FAILED: Kind.FAILED,
    Status.CANCELLED: Kind.CANCELLED,
    Status.TERMINATED: Kind.TERMINATED,
    Status.CONTINUED: Kind.CONTINUED,
}
FAILURE = '{"type":"builtins:ValueError","message":"no"}'
HAPPENINGS = (
    "event", "event", "status", "timer", "timer", "timer done", "state", "state", "parked", "heartbeat",
    "heartbeat done", "end",
)  # fmt: skip


class Batches:
    """Draws them with `choose`; the same state of it gives the same batch."""

    def __init__(self, model: StoreModel, choose: random.Random) -> None:
        self.model = model
        self.choose = choose

    def draw(self) -> Batch:
        """Give a batch with up to two new executions, and with whatever may happen to those that are open."""
        batch, choose = Batch(), self.choose
        for _ in range(choose.choice([0, 0, 0, 1, 2])):
            self.add(batch)
        alive = self.model.open()
        for num in choose.sample(alive, min(len(alive), choose.randint(1, 3))):
            self._advance(batch, self.model.row(num))
        closed = sorted(self.model.rows.keys() - alive)
        if closed and choose.random() < 0.2:
            self._reopen(batch, self.model.row(choose.choice(closed)))
        batch.inbox_done = choose.sample(range(1, self.model.last_n + 2), min(2, self.model.last_n))
        if choose.random() < 0.1 and batch.events:
            batch.events.append(batch.events[0])
        return batch

    def add(self, batch: Batch) -> ExecutionRow:
        """Put a new execution into a batch: with an id that is free, or perhaps one that is taken."""
        choose, id = self.choose, self.choose.choice(IDS)
        runs = [row["run"] for row in self.model.runs(id)] + [row.run for row in batch.executions if row.id == id]
        parents = [None, *[self.model.row(num) for num in self.model.rows], *batch.executions]
        row = ExecutionRow(
            id,
            choose.choice(["order", "other"]),
            choose.choice(MOMENTS),
            run=max(runs) + choose.choice([1, 1, 1, 0]) if runs else 1,
            status=choose.choice(OPEN),
            deadline_at=choose.choice([None, *MOMENTS]),
            deployment=choose.choice([None, "v1"]),
            parent_row=choose.choice(parents),
            parent_seq=1,
        )
        batch.executions.append(row)
        batch.events.append((row, Event(1, Kind.STARTED, START_US, None, row.workflow, choose.choice(DATA))))
        return row

    def parked(self, row: ExecutionRow) -> Parked:
        choose, what = self.choose, self.choose.choice(["signal", "cancel", "event"])
        kind = Kind.TIMER_FIRED.value if what == "event" else None
        return Parked(row, what, kind, choose.choice([None, 1, 2]), choose.choice([None, *KEYS]), choose.choice(DATA))

    def _advance(self, batch: Batch, row: ExecutionRow) -> None:
        """Let something happen to an execution: some of all that a batch can hold of it."""
        choose, num, seq = self.choose, row.num, len(self.model.events[row.num]) + 1
        timers = sorted(self.model.timers)
        for happening in choose.choices(HAPPENINGS, k=choose.randint(1, 10)):
            match happening:
                case "event":
                    batch.events.append((row, Event(seq, Kind.STATE_SET, START_US, None, "a", choose.choice(DATA))))
                    seq += 1
                case "status":
                    row.status, row.problem = choose.choice(OPEN), choose.choice(TEXTS)
                    batch.statuses[row] = None
                case "timer":
                    due_at, purpose = choose.choice(MOMENTS), choose.choice(list(Purpose))
                    batch.timers[(row, due_at, choose.randint(1, 2), purpose)] = None
                case "timer done" if timers:
                    batch.timers_done.append(choose.choice(timers))
                case "state":
                    batch.state[(row, choose.choice(KEYS))] = choose.choice(TEXTS)
                case "parked":
                    batch.parked.append(self.parked(row))
                case "heartbeat":
                    where = (num, choose.randint(1, 2))
                    batch.heartbeats[where] = (choose.randint(1, 3), START_US, choose.choice(DATA))
                case "heartbeat done":
                    batch.heartbeats_done.append((num, choose.randint(1, 2)))
                case "end":
                    self._end(batch, row, seq)
                    break

    def _reopen(self, batch: Batch, row: ExecutionRow) -> None:
        """Open a closed execution again, which may have been replaced."""
        seq = len(self.model.events[row.num]) + 1
        batch.events.append((row, Event(seq, Kind.REOPENED, START_US, None, None, '{"from_seq":1}')))
        row.status, row.ended_at = Status.RUNNING, None
        batch.statuses[row] = None
        batch.reopened.append(row)

    def _end(self, batch: Batch, row: ExecutionRow, seq: int) -> None:
        row.status, row.ended_at = self.choose.choice(list(CLOSED_BY)), self.choose.choice(MOMENTS)
        data = FAILURE if row.status is Status.FAILED else self.choose.choice(DATA)
        batch.events.append((row, Event(seq, CLOSED_BY[row.status], row.ended_at, None, None, data)))
        batch.statuses[row] = None
