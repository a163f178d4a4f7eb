"""Everything that a file holds, at one moment, for whoever wants to compare it: one run after the other.

All of it is read in one transaction on a read-only connection, so a runner may be at work meanwhile. While the block is
open the write-ahead log cannot be cut.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import apsw
import msgspec

from perdure.codec.payload import DecodeError, Payloads
from perdure.events import CLOSING, Event
from perdure.store.rows import ExecutionRow, InboxRow, TimerRow
from perdure.store.sqlite.connection import translate, translated
from perdure.store.sqlite.queries import queries
from perdure.store.sqlite.recordings import Recordings

UNREADABLE = (DecodeError, KeyError, ValueError, TypeError, AttributeError, msgspec.MsgspecError)
"""What reading rows raises that somebody else wrote."""


class Relative(NamedTuple):
    """Another run that one has to agree with: a child, or the run before."""

    row: ExecutionRow
    closing: Event | None
    """The event that it ended with; None while it is open."""


class Heartbeat(NamedTuple):
    seq: int
    attempt: int


class Entry(NamedTuple):
    """One run, with all that the file keeps of it."""

    row: ExecutionRow
    events: list[Event]
    timers: list[TimerRow]
    state: dict[str, str]
    inbox: list[InboxRow]
    heartbeats: list[Heartbeat]
    children: list[Relative]
    before: Relative | None
    """The run with the same id and the number before; None where there is none."""


class Unreadable(NamedTuple):
    """A run of which something cannot be read."""

    name: str
    problem: str


class Contents:
    """See the module. Raises `StoreError` for a file that is missing, not ours, of another version, or encoded while
    there is no codec."""

    def __init__(self, path: Path, payloads: Payloads) -> None:
        self._recordings = Recordings(path, payloads)
        self.path = path
        self.reader = self._recordings.reader

    def __enter__(self) -> Self:
        try:
            with translated(self.path):
                self.reader.connection.execute("BEGIN")
                self.reader.meta("database_id")  # the moment is that of the first read
        except BaseException:
            self._recordings.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._recordings.close()

    # --- one run after the other ------------------------------------------------------------------------------------

    def entries(self) -> Iterator[Entry | Unreadable]:
        """Give every run, oldest first."""
        timers = _Groups(self._rows("timers_by_execution"))
        for num, id, run in self._rows("all_executions"):
            due = [TimerRow(*row) for row in timers.take(num)]
            try:
                yield self._entry(num, due)
            except UNREADABLE as error:
                yield Unreadable(f"{id}, run {run}", f"{type(error).__name__}: {error}")

    def _entry(self, num: int, timers: list[TimerRow]) -> Entry:
        reader = self.reader
        row = reader.get(num)
        if row is None:
            raise ValueError(f"there is no execution {num} any more")
        return Entry(
            row,
            reader.history(num),
            timers,
            reader.state(num),
            reader.parked(num),
            [Heartbeat(*found) for found in reader.rows("heartbeats", (num,))],
            [self._relative(child) for child in reader.children(num)],
            self._before(row),
        )

    def _before(self, row: ExecutionRow) -> Relative | None:
        found = self.reader.rows("execution_run", (row.id, row.run - 1)) if row.run > 1 else []
        before = self.reader.get(found[0][0]) if found else None
        return None if before is None else self._relative(before)

    def state_before(self, entry: Entry) -> dict[str, str] | None:
        """Give the readable state of the run before; None where there is none."""
        return None if entry.before is None else self.reader.state(entry.before.row.num)

    def _relative(self, row: ExecutionRow) -> Relative:
        last = self.reader.last_event(row.num) if row.status.closed else None
        return Relative(row, last if last is not None and last.kind in CLOSING else None)

    # --- as a whole -------------------------------------------------------------------------------------------------

    def damage(self) -> list[str]:
        """Give what SQLite finds wrong with the file itself."""
        with translated(self.path):
            found = [str(row[0]) for row in self.reader.connection.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def orphans(self) -> list[tuple[str, int]]:
        """Give how many rows belong to no execution, by table; tables without are left out."""
        return [(table, count) for table, count in self._rows("orphan_rows") if count]

    def miscounted_blobs(self) -> list[tuple[str, int, int]]:
        """Give blobs that are used more or less often than they say, as (digest, says, is)."""
        return list(self._rows("miscounted_blobs"))

    def misplaced_runs(self) -> list[str]:
        """Give the ids of which a run is open that is not the newest."""
        return [row[0] for row in self._rows("misplaced_runs")]

    def unfollowed(self) -> list[tuple[str, int]]:
        """Give runs that continued, but in none that is there; nothing where executions were deleted."""
        return list(self._rows("unfollowed"))

    def _rows(self, name: str) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self.reader.connection.execute(queries()[name])
        except apsw.Error as error:
            raise translate(self.path, error) from error


class _Groups:
    """Rows in the order of their second column, handed out by it."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self._rows = rows
        self._next = next(rows, None)

    def take(self, num: int) -> Iterator[tuple[Any, ...]]:
        """Give the rows of `num`; those of smaller ones, which nobody asked for, are passed over."""
        while self._next is not None and self._next[1] <= num:
            if self._next[1] == num:
                yield self._next
            self._next = next(self._rows, None)


__all__ = ["Contents", "Entry", "Heartbeat", "Relative", "Unreadable"]
