"""What a store keeps and gives, as plain dictionaries: the verbs of `store.Store` in the simplest form there is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from perdure.events import Event, Kind
from perdure.store import Batch, ExecutionRow, Parked
from perdure.types import Status

UNFINISHED = (Status.PENDING, Status.RUNNING, Status.BLOCKED)
FIELDS = (
    "num", "id", "run", "workflow", "status", "created_at", "ended_at", "parent_num", "parent_seq", "deadline_at",
    "deployment", "problem",
)  # fmt: skip
CHANGED = ("status", "ended_at", "problem", "deployment", "deadline_at")
"""What `Batch.statuses` writes."""

Fields = dict[str, Any]
Entry = tuple[int, int, str, int | None, int | None, str | None, str | None]
"""An entry of the inbox: n, execution, what, kind, ref, name, data."""


def fields(row: ExecutionRow) -> Fields:
    return {name: getattr(row, name) for name in FIELDS}


class StoreModel:
    def __init__(self) -> None:
        self.rows: dict[int, Fields] = {}
        self.events: dict[int, list[Event]] = {}
        self.state: dict[int, dict[str, str]] = {}
        self.timers: set[tuple[int, int, int, int]] = set()
        """(due_at, execution, seq, purpose)"""
        self.inbox: list[Entry] = []
        self.heartbeats: dict[tuple[int, int], tuple[int, str | None]] = {}
        self.last_num = 0
        self.last_n = 0

    # --- writing ----------------------------------------------------------------------------------------------------

    def refuses(self, rows: Iterable[ExecutionRow]) -> bool:
        """Say whether one of the rows to insert has an (id, run) that is taken."""
        seen = {(row["id"], row["run"]) for row in self.rows.values()}
        for row in rows:
            if (row.id, row.run) in seen:
                return True
            seen.add((row.id, row.run))
        return False

    def refuses_to_create(self, rows: Iterable[ExecutionRow]) -> bool:
        """Say the same of what a client creates: it may not replace a run that is open, or open again."""
        rows = list(rows)
        alive = {self.rows[num]["id"] for num in self.open()}
        return self.refuses(rows) or any(row.run > 1 and row.id in alive for row in rows)

    def refuses_to_reopen(self, batch: Batch) -> bool:
        """Say whether one of the rows to reopen is not the newest run of its id."""
        newest = {row["id"]: row["run"] for row in sorted(self.rows.values(), key=lambda row: row["run"])}
        newest |= {row.id: max(row.run, newest.get(row.id, 0)) for row in batch.executions}
        return any(newest[row.id] != row.run for row in batch.reopened)

    def insert(self, row: ExecutionRow) -> None:
        """Keep a row that the store has just inserted, and so given its key: the next one, never one used before."""
        self.last_num += 1
        assert row.num == self.last_num
        self.rows[row.num] = fields(row)
        self.events[row.num] = []
        self.state[row.num] = {}

    def commit(self, batch: Batch) -> None:
        """Keep a batch that the store has written."""
        for row in batch.executions:
            self.insert(row)
        for row, event in batch.events:
            self.events[row.num].append(event)
        for row in batch.statuses:
            self.rows[row.num].update({name: getattr(row, name) for name in CHANGED})
        self.timers |= {(due_at, row.num, seq, purpose) for row, due_at, seq, purpose in batch.timers}
        self.timers -= set(batch.timers_done)
        for (row, key), data in batch.state.items():
            if data is None:
                self.state[row.num].pop(key, None)
            else:
                self.state[row.num][key] = data
        self.request(batch.parked)
        self.inbox = [entry for entry in self.inbox if entry[0] not in batch.inbox_done]
        for where, (number, _, details) in batch.heartbeats.items():
            self.heartbeats[where] = (number, details)
        for where in batch.heartbeats_done:
            self.heartbeats.pop(where, None)

    def request(self, requests: Iterable[Parked]) -> None:
        for parked in requests:
            self.last_n += 1
            self.inbox.append((self.last_n, parked.row.num, *parked[1:]))

    def delete(self, nums: Iterable[int]) -> int:
        closed = {num for num in nums if num in self.rows and self.rows[num]["status"].closed}
        for num in closed:
            for kept in (self.rows, self.events, self.state):
                del kept[num]
        self.inbox = [entry for entry in self.inbox if entry[1] not in closed]
        self.heartbeats = {where: beat for where, beat in self.heartbeats.items() if where[0] not in closed}
        return len(closed)

    # --- reading ----------------------------------------------------------------------------------------------------

    def row(self, num: int) -> ExecutionRow:
        """Give a fresh row object, as the runner would hold one."""
        kept = {name: value for name, value in self.rows[num].items() if name != "parent_num"}
        return ExecutionRow(**kept, parent=self.rows[num]["parent_num"])

    def open(self) -> list[int]:
        return [num for num, row in self.rows.items() if not row["status"].closed]

    def runs(self, id: str) -> list[Fields]:
        """Give the runs of an id, oldest first."""
        return sorted((row for row in self.rows.values() if row["id"] == id), key=lambda row: row["run"])

    def with_status(self, *statuses: Status) -> list[Fields]:
        return [row for num, row in sorted(self.rows.items()) if row["status"] in statuses]

    def children(self, num: int) -> list[Fields]:
        return [row for _, row in sorted(self.rows.items()) if row["parent_num"] == num]

    def first_input(self, num: int) -> str | None:
        """Give the input of the first of those that continued, one after the other, as this one."""
        chain: list[Fields] = []
        for row in self.runs(self.rows[num]["id"]):
            if row["run"] <= self.rows[num]["run"]:
                chain = [*chain, row] if not chain or chain[-1]["status"] is Status.CONTINUED else [row]
        return next(event.data for event in self.events[chain[0]["num"]] if event.kind is Kind.STARTED)

    def counts(self) -> dict[Status, int]:
        statuses = [row["status"] for row in self.rows.values()]
        return {status: statuses.count(status) for status in set(statuses)}

    def expired(self, statuses: tuple[Status, ...], before: int | None, keep: int | None) -> list[tuple[int, str]]:
        """Give what retention may delete: of these statuses (all, if none is named), older than `before`, without the
        `keep` that ended last; a child only when its parent is not open."""
        closed = [row for row in self.rows.values() if row["status"].closed and row["status"] in (statuses or Status)]
        newest = sorted(closed, key=lambda row: (row["ended_at"], row["num"]), reverse=True)
        spared = {row["num"] for row in newest[: keep or 0]}
        found = []
        for row in sorted(closed, key=lambda row: row["num"]):
            parent = self.rows.get(row["parent_num"])
            held = parent is not None and not parent["status"].closed
            if not held and row["num"] not in spared and (before is None or row["ended_at"] < before):
                found.append((row["num"], row["id"]))
        return found
