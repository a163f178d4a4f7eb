"""Reading recorded executions out of a file that nobody may change: neither its content nor its schema.

Everything is read on one read-only connection, in short transactions, so a runner on the same file is not held up, and
what is read of one execution (its row, its history, what waits for it) is of one moment.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

import apsw
import msgspec

from perdure.codec.payload import DecodeError, Payloads
from perdure.errors import NotOurFile, StoreError
from perdure.events import Event
from perdure.store.rows import ExecutionRow, InboxRow
from perdure.store.sqlite import schema
from perdure.store.sqlite.connection import open_connection, translated
from perdure.store.sqlite.reader import Reader
from perdure.types import Status

PAGE = 500


class Selection(NamedTuple):
    """Which executions to read; what is left out does not matter. `ids` takes all runs of each."""

    workflow: str | None = None
    status: Sequence[Status] = ()
    ids: Sequence[str] = ()


class Recorded(NamedTuple):
    """One run as the file has it. `problem` says why its history cannot be read; then there are no events."""

    row: ExecutionRow
    events: list[Event]
    waiting: list[InboxRow]
    """What a blocked or paused execution could not take yet."""
    problem: str | None = None


class Recordings:
    """The executions of one file. Raises `StoreError` for a file that is missing, not ours, of another version, or
    encoded while there is no codec."""

    def __init__(self, path: Path, payloads: Payloads) -> None:
        if not path.exists():
            raise StoreError(f"there is no database {path}", hint="check the path")
        self.path = path
        self.reader = Reader(_open(path), path, payloads)
        try:
            with translated(path):
                self._check_version()
            if payloads.codec is None and self.reader.meta("encoded") is not None:
                raise StoreError(
                    f"the payloads of {path} are encoded (encrypted) and no codec was given",
                    hint="pass the codec that they were written with, such as AesGcmCodec.from_environment()",
                )
        except BaseException:
            self.close()
            raise

    def _check_version(self) -> None:
        version, current = schema.check(self.reader.connection, self.path), len(schema.migrations())
        if version == 0:
            raise NotOurFile(f"{self.path} is empty", hint="name a file in which an engine has run workflows")
        if version < current:
            raise StoreError(
                f"{self.path} has schema version {version}, this perdure reads {current}, and the file is not changed",
                hint="open a copy of it once with this perdure, then look at that: `perdure list --db COPY`",
            )

    def close(self) -> None:
        self.reader.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def count(self, selection: Selection) -> int:
        where, values = _conditions(selection)
        found: int = self.reader.rows("recorded_count", values, where=where)[0][0]
        return found

    def read(self, selection: Selection, limit: int | None = None) -> Iterator[Recorded]:
        """Give the selected executions, newest first, at most `limit`. Those that start meanwhile are left out."""
        before, left = 2**63 - 1, limit
        where, values = _conditions(selection)
        while left is None or left > 0:
            size = PAGE if left is None else min(PAGE, left)
            nums = [row[0] for row in self.reader.rows("recorded_page", (*values, before, size), where=where)]
            for num in nums:
                with self._moment():
                    row = self.reader.get(num)
                    recorded = None if row is None else self._recorded(row)  # None: deleted meanwhile
                if recorded is not None:
                    yield recorded
            if len(nums) < size:
                return
            before, left = nums[-1], None if left is None else left - size

    @contextmanager
    def _moment(self) -> Iterator[None]:
        """Read everything in the block as it is at one moment."""
        connection = self.reader.connection
        with translated(self.path):
            connection.execute("BEGIN")
        try:
            yield
        finally:
            with translated(self.path):
                connection.execute("ROLLBACK")

    def _recorded(self, row: ExecutionRow) -> Recorded:
        held = row.status in (Status.BLOCKED, Status.PAUSED)
        try:
            return Recorded(row, self.reader.history(row.num), self.reader.parked(row.num) if held else [])
        except (DecodeError, KeyError, ValueError, msgspec.MsgspecError) as error:
            reason = f"an event of kind {error}, which this perdure does not know" if type(error) is KeyError else error
            return Recorded(row, [], [], str(reason))


def _open(path: Path) -> apsw.Connection:
    try:
        return open_connection(path, read_only=True)
    except StoreError:
        # In a folder that may not be written to SQLite cannot make its files beside the database. Without a log
        # nobody is writing, and it is read as it is.
        if path.with_name(path.name + "-wal").exists() or not os.access(path, os.R_OK):
            raise
    name = f"file:{quote(os.fspath(path.absolute()))}?immutable=1"
    with translated(path):
        connection = apsw.Connection(name, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
        connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
        connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
        return connection


def _conditions(selection: Selection) -> tuple[str, tuple[Any, ...]]:
    where: list[str] = ["1"]
    values: list[Any] = []
    if selection.workflow is not None:
        where.append("x.workflow = ?")
        values.append(selection.workflow)
    for column, wanted in (("status", selection.status), ("id", selection.ids)):
        if wanted:
            where.append(f"x.{column} IN (SELECT value FROM json_each(?))")
            values.append(msgspec.json.encode(list(wanted)).decode())
    return " AND ".join(where), tuple(values)


def is_database(path: Path) -> bool:
    """Say whether a file begins as SQLite's do. Raises `StoreError` when it cannot be read."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error
