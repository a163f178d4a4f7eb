"""What was asked for in an old copy of a tenant, taken over into the newest state.

A machine's file is old once another one has run the tenant. Clients on that machine do not know, and what they ask for
is committed there: starts, signals and the like. None of it has been begun, so it can be asked for again.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from perdure.codec.payload import Payloads
from perdure.store import ExecutionRow, InboxRow, Parked
from perdure.store.sqlite import SqliteStore

MANY = 100_000
_BY_ID = ("signal", "cancel", "terminate", "pause", "resume", "retry")


class Carried(NamedTuple):
    """How many starts and requests were taken over, and how many could not be."""

    starts: int
    requests: int
    left: int


def carry_over(old: Path, new: Path, after: int | None, payloads: Payloads) -> Carried:
    """Take over what waits in `old`: executions that are not in `new`, and requests with numbers above `after`. With
    `after` None it is not known which requests are new: none is taken twice, so none is taken at all."""
    source, target = (SqliteStore(path, create=False, payloads=payloads) for path in (old, new))
    try:
        starts = left = 0
        for row in source.pending(MANY):
            if target.find(row.id) is not None:
                continue
            if row.run > 1 or row.parent is not None:
                left += 1
                continue
            fresh = ExecutionRow(row.id, row.workflow, row.created_at, deadline_at=row.deadline_at)
            target.create([(fresh, source.history(row.num))])
            starts += 1
        entries = source.inbox(after or 0, MANY)
        found = [_again(source, target, entry) for entry in entries] if after is not None else [None] * len(entries)
        requests = [parked for parked in found if parked is not None]
        if requests:
            target.request(requests)
        return Carried(starts, len(requests), left + len(entries) - len(requests))
    finally:
        source.close()
        target.close()


def _again(source: SqliteStore, target: SqliteStore, entry: InboxRow) -> Parked | None:
    """Make a request anew, for the execution of the same id; None where that cannot be."""
    asked = source.get(entry.execution)
    row = None if asked is None else target.find(asked.id)
    if row is None or entry.what not in _BY_ID or entry.problem is not None:
        return None
    return Parked(row, entry.what, entry.kind, entry.ref, entry.name, entry.data)
