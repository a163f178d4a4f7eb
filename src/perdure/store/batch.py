"""Everything that one transaction writes. The runner fills it; the store's `commit` writes it whole or not at all."""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from perdure.events import Event
from perdure.store.rows import ExecutionRow


class Parked(NamedTuple):
    """A request or an input to keep in the inbox."""

    row: ExecutionRow
    what: str
    kind: int | None = None
    ref: int | None = None
    name: str | None = None
    data: str | None = None


class Batch(msgspec.Struct, eq=False):
    """One transaction's writes. Rows are named by object, since new ones get their `num` only inside the
    transaction."""

    executions: list[ExecutionRow] = []
    """To insert, parents before their children."""
    events: list[tuple[ExecutionRow, Event]] = []
    statuses: dict[ExecutionRow, None] = {}
    """Rows whose status, end or problem changed."""
    reopened: list[ExecutionRow] = []
    """Those of them that were closed: each must still be the newest run of its id, or the batch is refused."""
    timers: dict[tuple[ExecutionRow, int, int, int], bool | None] = {}
    """To insert: (row, due_at, seq, purpose), and whether the file may have it already."""
    timers_done: list[tuple[int, int, int, int]] = []
    """To delete: (due_at, execution, seq, purpose)."""
    state: dict[tuple[ExecutionRow, str], str | None] = {}
    """Readable state by key; None removes it."""
    parked: list[Parked] = []
    inbox_done: list[int] = []
    inbox_moved: list[tuple[int, ExecutionRow]] = []
    """Entries that are for another execution now; they keep their place."""
    heartbeats: dict[tuple[int, int], tuple[int, int, str | None]] = {}
    """(execution, seq) to (attempt, at, details)."""
    heartbeats_done: list[tuple[int, int]] = []

    def __bool__(self) -> bool:
        return bool(
            self.events
            or self.executions
            or self.statuses
            or self.timers
            or self.timers_done
            or self.state
            or self.parked
            or self.inbox_done
            or self.inbox_moved
            or self.heartbeats
            or self.heartbeats_done
        )

    def cancel_timer(self, row: ExecutionRow, due_at: int, seq: int, purpose: int) -> None:
        """Delete a timer, also one that this batch was about to insert."""
        there = self.timers.pop((row, due_at, seq, purpose), True)
        if there and row.num:
            self.timers_done.append((due_at, row.num, seq, purpose))
