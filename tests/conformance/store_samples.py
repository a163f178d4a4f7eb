"""Rows, events and batches to try a store with."""

from __future__ import annotations

from typing import Any

from perdure.events import Event, Kind
from perdure.store import Batch, ExecutionRow, Store
from perdure.types import Status

START_US = 1_700_000_000_000_000


def row(id: str, status: Status = Status.RUNNING, *, workflow: str = "order", at: int = 0, **more: Any) -> ExecutionRow:
    return ExecutionRow(id, workflow, START_US + at, status=status, **more)


def started(data: str = "{}", at: int = 0) -> Event:
    return Event(1, Kind.STARTED, START_US + at, None, "order", data)


def event(seq: int, kind: Kind = Kind.STATE_SET, data: str | None = "1", ref: int | None = None) -> Event:
    return Event(seq, kind, START_US + seq, ref, "a", data)


def batch_of(*rows: ExecutionRow, data: str = "{}") -> Batch:
    """Give a batch that inserts `rows`, each with its STARTED event."""
    batch = Batch()
    for one in rows:
        batch.executions.append(one)
        batch.events.append((one, started(data)))
    return batch


def add(store: Store, *rows: ExecutionRow, data: str = "{}") -> ExecutionRow:
    """Commit `rows`; give the first."""
    store.commit(batch_of(*rows, data=data))
    return rows[0]


def end(store: Store, row: ExecutionRow, status: Status = Status.COMPLETED, at: int = 100) -> None:
    """Commit the end of an execution that has only its STARTED event."""
    kinds = {
        Status.COMPLETED: Kind.COMPLETED,
        Status.FAILED: Kind.FAILED,
        Status.CANCELLED: Kind.CANCELLED,
        Status.TERMINATED: Kind.TERMINATED,
        Status.CONTINUED: Kind.CONTINUED,
    }
    batch = Batch()
    failure = '{"type":"builtins:ValueError","message":"no"}' if status is Status.FAILED else "null"
    batch.events.append((row, Event(2, kinds[status], START_US + at, None, None, failure)))
    row.status, row.ended_at = status, START_US + at
    batch.statuses[row] = None
    store.commit(batch)
