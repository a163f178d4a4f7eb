"""Reading what the engine and clients need, on a connection that never writes."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import apsw

from perdure.codec.payload import DecodeError, Payloads
from perdure.events import Event, Kind
from perdure.store.rows import ExecutionRow, InboxRow, TimerRow
from perdure.store.sqlite.connection import translate
from perdure.store.sqlite.queries import queries
from perdure.types import Status

_KINDS = {kind.value: kind for kind in Kind}


class Reader:
    """One read connection; a lock makes it usable from several threads."""

    def __init__(self, connection: apsw.Connection, path: Path, payloads: Payloads) -> None:
        self.connection = connection
        self.path = path
        self.payloads = payloads
        self._sql = queries()
        self._lock = threading.Lock()

    def rows(self, name: str, values: tuple[Any, ...] = (), **parts: str) -> list[tuple[Any, ...]]:
        """Run a named statement and give all its rows. `parts` fill the statement's own {places}, never with user
        text."""
        sql = self._sql[name]
        if parts:
            sql = sql.format(**parts)
        try:
            with self._lock:
                return self.connection.execute(sql, values).fetchall()
        except apsw.Error as error:
            raise translate(self.path, error) from error

    def meta(self, key: str) -> Any:
        rows = self.rows("meta", (key,))
        return rows[0][0] if rows else None

    def changed(self) -> int:
        """Give a number that differs once another connection has committed."""
        with self._lock:
            version: int = self.connection.pragma("data_version")
        return version

    def unfinished(self) -> list[ExecutionRow]:
        return [_execution(row) for row in self.rows("unfinished")]

    def pending(self, limit: int) -> list[ExecutionRow]:
        return [_execution(row) for row in self.rows("pending", (limit,))]

    def due_timers(self, now: int, limit: int) -> list[TimerRow]:
        return [TimerRow(*row) for row in self.rows("due_timers", (now, limit))]

    def next_due(self) -> int | None:
        due: int | None = self.rows("next_due")[0][0]
        return due

    def has_timer(self, timer: TimerRow) -> bool:
        return bool(self.rows("timer", timer))

    def inbox(self, after: int, limit: int) -> list[InboxRow]:
        return [self._inbox_row(row) for row in self.rows("inbox", (after, limit))]

    def parked(self, num: int) -> list[InboxRow]:
        return [self._inbox_row(row) for row in self.rows("parked", (num,))]

    def heartbeat(self, num: int, seq: int) -> tuple[int, str | None] | None:
        rows = self.rows("heartbeat", (num, seq))
        return (rows[0][0], self.payloads.load(rows[0][1], None)) if rows else None

    def find(self, id: str) -> ExecutionRow | None:
        rows = self.rows("execution_by_id", (id,))
        return _execution(rows[0]) if rows else None

    def get(self, num: int) -> ExecutionRow | None:
        rows = self.rows("execution_by_num", (num,))
        return _execution(rows[0]) if rows else None

    def children(self, num: int) -> list[ExecutionRow]:
        return [_execution(row) for row in self.rows("children", (num,))]

    def history(self, num: int) -> list[Event]:
        return [self.event(row) for row in self.rows("history", (num,))]

    def last_event(self, num: int) -> Event | None:
        rows = self.rows("last_event", (num,))
        return self.event(rows[0]) if rows else None

    def ending(self, id: str) -> tuple[ExecutionRow, Event | None] | None:
        rows = self.rows("ending", (id,))
        if not rows:
            return None
        row, event = rows[0][:12], rows[0][12:]
        return _execution(row), None if event[0] is None else self.event(event)

    def first_input(self, num: int) -> str | None:
        rows = self.rows("first_input", (num,))
        return self.load(*rows[0]) if rows else None

    def state(self, num: int) -> dict[str, str]:
        return {key: self.payloads.load(data, None) or "null" for key, data in self.rows("state", (num,))}

    def event(self, row: tuple[Any, ...]) -> Event:
        seq, kind, at, ref, name, data, blob = row
        if blob is not None or data.__class__ is bytes:
            data = self.load(data, blob)
        return Event(seq, _KINDS[kind], at, ref, name, data)

    def load(self, data: str | bytes | None, digest: bytes | None) -> str | None:
        """Give the text of a stored payload."""
        if digest is None:
            return self.payloads.load(data, None)
        rows = self.rows("blob", (digest,))
        return self.payloads.load(None, rows[0][0] if rows else b"")

    def _inbox_row(self, row: tuple[Any, ...]) -> InboxRow:
        n, execution, what, kind, ref, name, data = row
        try:
            return InboxRow(n, execution, what, kind, ref, name, self.payloads.load(data, None))
        except DecodeError as error:
            return InboxRow(n, execution, what, kind, ref, name, None, str(error))


def _execution(row: tuple[Any, ...]) -> ExecutionRow:
    num, id, run, workflow, status, created_at, ended_at, parent, parent_seq, deadline_at, deployment, problem = row
    return ExecutionRow(
        id,
        workflow,
        created_at,
        num=num,
        run=run,
        status=Status(status),
        ended_at=ended_at,
        parent=parent,
        parent_seq=parent_seq,
        deadline_at=deadline_at,
        deployment=deployment,
        problem=problem,
    )
