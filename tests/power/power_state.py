"""The content of a database as people see it, and whether it agrees with what someone was told."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from perdure.events import CLOSING, Kind
from perdure.store.sqlite import SqliteStore

_TABLES = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name"
_NOT_THE_SAME = "WHERE key <> 'database_id'"
"""A file that is made again gets another one."""


class Happened(NamedTuple):
    """An event, or an entry of the inbox: `kind` is None for that."""

    run: int
    seq: int
    kind: int | None
    what: str
    ref: int | None
    name: str | None
    data: str | None


def open_and_check(path: Path) -> SqliteStore:
    """Open a database as one that writes does, and check all of it. Raises `AssertionError` when it is not sound."""
    store = SqliteStore(path)
    assert store.writer  # opened when it is first asked for
    wrong = [finding for finding in store.check(quick=False) if not finding[1]]
    if wrong:
        store.close()
        raise AssertionError(f"the database is not sound: {wrong}")
    return store


def digest(store: SqliteStore) -> str:
    """Give a hash of all rows of all tables."""
    connection, content = store.reader.connection, hashlib.sha256()
    for (table,) in connection.execute(_TABLES).fetchall():
        where = _NOT_THE_SAME if table == "perdure_meta" else ""
        rows = connection.execute(f'SELECT * FROM "{table}" {where}').fetchall()
        content.update(f"{table} {sorted(map(repr, rows))}".encode())
    return content.hexdigest()


class State:
    """Everything that is in a database."""

    def __init__(self, store: SqliteStore) -> None:
        connection = store.reader.connection
        self.digest = digest(store)
        rows = connection.execute("SELECT num, id, run, status FROM perdure_execution ORDER BY num").fetchall()
        self.statuses: dict[str, str] = {id: status for _, id, _, status in rows}
        """By id, of the newest run."""
        runs = {num: (id, run) for num, id, run, _ in rows}
        self.happened: dict[str, list[Happened]] = {id: [] for id in self.statuses}
        for num, *event in connection.execute("SELECT execution, seq, kind, ref, name, data FROM perdure_event"):
            id, run = runs[num]
            seq, kind, ref, name, data = event
            self.happened[id].append(Happened(run, seq, kind, "event", ref, name, data))
        for num, *entry in connection.execute("SELECT execution, what, kind, ref, name, data FROM perdure_inbox"):
            id, run = runs[num]
            what, kind, ref, name, data = entry
            self.happened[id].append(Happened(run, 0, kind, what, ref, name, data))
        self._check_tally(connection)

    def _check_tally(self, connection: apsw.Connection) -> None:
        """Compare the rows of transactional activities with their ends, in the log or waiting for an execution that is
        paused: the very same."""
        if "tally" not in [name for (name,) in connection.execute(_TABLES)]:
            return
        rows = connection.execute("SELECT execution, n FROM tally").fetchall()
        assert len(rows) == len(set(rows)), f"a transactional activity took effect twice: {sorted(rows)}"
        logged = connection.execute(
            "SELECT s.data ->> '$.execution', s.data ->> '$.n' FROM "
            "(SELECT execution, kind, ref FROM perdure_event "
            "UNION ALL SELECT execution, kind, ref FROM perdure_inbox) e "
            "JOIN perdure_event s ON s.execution = e.execution AND s.seq = e.ref "
            f"WHERE e.kind = {Kind.ACTIVITY_COMPLETED} AND s.name = 'tally'"
        ).fetchall()
        here = {row for row in rows if row[0] in self.statuses}  # of what was deleted the rows are the user's
        assert here == set(logged), f"rows and log differ: {here ^ set(logged)}"

    def ended_activities(self) -> set[tuple[str, int, int]]:
        """Give the activities whose end is recorded: (execution, run, seq)."""
        ends = (Kind.ACTIVITY_COMPLETED, Kind.ACTIVITY_FAILED)
        return {(id, one.run, one.ref or 0) for id, found in self.happened.items() for one in found if one.kind in ends}

    def agrees(self, what: str, id: str, *rest: Any) -> bool:
        """Say whether the content shows what was claimed of an execution that is there."""
        found = self.happened.get(id, [])
        match what, *rest:
            case ["started"]:
                return id in self.statuses
            case ["signalled", value]:
                signals = [one for one in found if one.kind == Kind.SIGNAL_RECEIVED or one.what == "signal"]
                return any(one.data == str(value) for one in signals) or self._inherited(found, value)
            case ["cancelled"]:
                return any(one.kind == Kind.CANCEL_REQUESTED or one.what == "cancel" for one in found)
            case ["ended", status]:
                return self.statuses.get(id) == status and any(one.kind in CLOSING for one in found)
            case ["effect", run, seq, attempt]:
                return self._scheduled(found, run, seq, attempt)
            case ["gone"]:
                return id not in self.statuses
            case ["answered", run, seq]:
                return self._answered(id, found, run, seq)
        raise ValueError(what)

    def _inherited(self, found: list[Happened], value: Any) -> bool:
        lists = [one.data or "" for one in found if one.kind == Kind.INHERITED]
        return any(f'["number",{value}]' in data for data in lists)

    def _scheduled(self, found: list[Happened], run: int, seq: int, attempt: int) -> bool:
        mine = [one for one in found if one.run == run]
        scheduled = any(one.seq == seq and one.kind == Kind.ACTIVITY_SCHEDULED for one in mine)
        return scheduled and sum(one.ref == seq and one.kind == Kind.ATTEMPT_FAILED for one in mine) >= attempt - 1

    def _answered(self, id: str, found: list[Happened], run: int, seq: int) -> bool:
        """Say whether an answer from outside waits, is recorded, or came too late for an execution that ended."""
        waits = any(one.what == "complete" and (one.name or "").split(".")[1] == str(seq) for one in found)
        ended = any(one.run == run and one.ref == seq and one.kind == Kind.ACTIVITY_COMPLETED for one in found)
        return waits or ended or any(one.run == run and one.kind in CLOSING for one in found)
