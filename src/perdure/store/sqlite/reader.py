"""Reading what the engine and clients need, on a connection that never writes.

A row that a bad disk or a stranger has spoiled must not take its neighbours along: text that is not UTF-8 is shown
with escapes, a status that does not exist reads as `blocked` (the history decides what it really is), and an event
that cannot be read is a `DecodeError` of its own execution.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw

from perdure.codec.payload import DecodeError, Payloads
from perdure.errors import StoreError
from perdure.events import INPUTS, Event, Kind
from perdure.store.rows import ExecutionRow, InboxRow, TimerRow
from perdure.store.sqlite.connection import translate, translated
from perdure.store.sqlite.queries import queries
from perdure.types import Status

_KINDS = {kind.value: kind for kind in Kind}
_STATUSES = {status.value: status for status in Status}
LARGEST_HISTORY = 1024**3
LARGEST_GROWTH = 100
_DAMAGED = "the file is damaged, or another program wrote to it: see `perdure doctor`"


class Large:
    """The large payloads of one history, by digest. Each is held once, and a file of a few kilobytes must not fill the
    memory with them."""

    def __init__(self) -> None:
        self.texts: dict[bytes, str] = {}
        self.stored = 0
        self.held = 0

    def add(self, digest: bytes, stored_bytes: int, text: str) -> None:
        self.texts[digest] = text
        self.stored += stored_bytes
        self.held += len(text)
        if self.held > LARGEST_HISTORY and self.held > LARGEST_GROWTH * self.stored:
            hint = "it may be there to fill the memory; terminate this execution if it is none of yours"
            raise DecodeError(f"{self.stored:,} bytes of the history say more than {self.held:,}", hint=hint)


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
                try:
                    return self.connection.execute(sql, values).fetchall()
                except UnicodeDecodeError:
                    return list(self._with_bytes(sql, values))
                except (OverflowError, UnicodeEncodeError):  # asks for what no file can hold
                    return []
        except apsw.Error as error:
            raise translate(self.path, error) from error

    def _with_bytes(self, sql: str, values: tuple[Any, ...]) -> Iterator[tuple[Any, ...]]:
        """Read rows with text that is not UTF-8: that comes as bytes."""
        names = [f"c{n}" for n in range(len(self.connection.execute(sql, values).get_description()))]
        parts = [f"typeof({n}), CASE typeof({n}) WHEN 'text' THEN CAST({n} AS BLOB) ELSE {n} END" for n in names]
        outer = f"WITH found({', '.join(names)}) AS ({sql}) SELECT {', '.join(parts)} FROM found"
        for row in self.connection.execute(outer, values):
            yield tuple(_text(part) if kind == "text" else part for kind, part in zip(row[::2], row[1::2], strict=True))

    def meta(self, key: str) -> Any:
        rows = self.rows("meta", (key,))
        return rows[0][0] if rows else None

    def changed(self) -> int:
        """Give a number that differs once another connection has committed."""
        with self._lock, translated(self.path):
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
        if due is not None and due.__class__ is not int:
            raise StoreError(f"{self.path} is damaged: its timers are not what they should be", hint=_DAMAGED)
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
        large = Large()
        return [self.event(row, large) for row in self.rows("history", (num,))]

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
        return {shown(key): self.payloads.load(data, None) or "null" for key, data in self.rows("state", (num,))}

    def event(self, row: tuple[Any, ...], large: Large | None = None) -> Event:
        seq, kind, at, ref, name, data, blob = row
        if blob is not None or (data is not None and data.__class__ is not str):
            data = self.load(data, blob, large)
        if kind not in _KINDS or (name is not None and name.__class__ is not str) or at.__class__ is not int:
            what = f"the unknown kind {kind}" if kind not in _KINDS else "a name or an instant that is none"
            raise DecodeError(f"event #{seq} has {what}", hint=_DAMAGED)
        return Event(seq, _KINDS[kind], at, ref, name, data)

    def load(self, data: str | bytes | None, digest: bytes | None, large: Large | None = None) -> str | None:
        """Give the text of a stored payload; `large` knows the large ones of the same history."""
        if digest is None:
            return self.payloads.load(data, None)
        if large is not None and digest in large.texts:
            return large.texts[digest]
        rows = self.rows("blob", (digest,))
        if not rows or rows[0][0].__class__ is not bytes:
            raise DecodeError("a large payload is not in the file", hint=_DAMAGED)
        text = self.payloads.load(None, rows[0][0])
        if large is not None and text is not None:
            large.add(digest, len(rows[0][0]), text)
        return text

    def _inbox_row(self, row: tuple[Any, ...]) -> InboxRow:
        n, execution, what, kind, ref, name, data = row
        try:
            if bytes in (what.__class__, name.__class__) or (kind is not None and kind not in INPUTS):
                raise DecodeError("it is not a request that there is", hint=_DAMAGED)
            return InboxRow(n, execution, what, kind, ref, name, self.payloads.load(data, None))
        except DecodeError as error:
            return InboxRow(n, execution, shown(what), None, ref, shown(name), None, str(error))


def _execution(row: tuple[Any, ...]) -> ExecutionRow:
    num, id, run, workflow, status, created_at, ended_at, parent, parent_seq, deadline_at, deployment, problem = row
    return ExecutionRow(
        shown(id),
        shown(workflow),
        whole(created_at),
        num=whole(num),
        run=whole(run),
        status=status_of(status),
        ended_at=ended_at,
        parent=parent,
        parent_seq=parent_seq,
        deadline_at=deadline_at,
        deployment=shown(deployment),
        problem=shown(problem),
    )


def status_of(text: Any) -> Status:
    return _STATUSES.get(text, Status.BLOCKED)


def whole(number: Any) -> int:
    """Give a number from the file; 0 for what is none. Only a damaged page holds that: the tables are STRICT."""
    return number if number.__class__ is int else 0


def shown(text: Any) -> Any:
    """Give text from the file such that it can be shown; None stays None."""
    if text is None or text.__class__ is str:
        return text
    return text.decode("utf-8", "backslashreplace") if text.__class__ is bytes else str(text)


def _text(raw: bytes) -> str | bytes:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw
