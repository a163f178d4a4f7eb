"""A file as it is at one moment, while others go on writing: its content as digests, and a copy of it.

A digest is of the rows of one table in the order of their keys, so two files with the same content have the same ones,
however their pages lie. While a moment is open the write-ahead log cannot be cut: keep it short.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import apsw
import msgspec

from perdure.errors import StoreError
from perdure.store.sqlite.connection import open_connection, translated
from perdure.store.sqlite.queries import queries

STEPS = 20_000
"""Of SQLite's machine between two looks at whether to stop: about a millisecond."""
ROWS = 500
"""So many are read and digested at a time."""


class TableDigest(msgspec.Struct, frozen=True):
    """The content of one table. `digest` is BLAKE2b with 128 bits, in hex."""

    rows: int
    digest: str


class Moment:
    """The file as it was when the block was entered. What takes long ends with an error once `stop` is set. Raises
    `StoreError`."""

    def __init__(self, path: Path, stop: threading.Event | None = None) -> None:
        if not path.exists():
            raise StoreError(f"there is no database {path}", hint="check the path")
        self.path = path
        self.connection = open_connection(path, read_only=True, checkpoints="never")
        _listen(self.connection, stop)

    def __enter__(self) -> Self:
        try:
            with translated(self.path):
                self.connection.execute("BEGIN")
                self.connection.execute(queries()["user_tables"]).fetchall()  # the moment is that of the first read
        except BaseException:
            self.connection.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.connection.close()

    def digests(self) -> dict[str, TableDigest]:
        """Digest every table, those of the user's transactional activities too; Litestream's own are left out. Reads
        the whole file: about a second for 100 MB."""
        with translated(self.path):
            tables = self.connection.execute(queries()["user_tables"]).fetchall()
            return {str(name): self._digest(str(name), str(sql)) for name, sql in tables}

    def _digest(self, table: str, sql: str) -> TableDigest:
        columns: list[tuple[Any, ...]] = self.connection.execute(queries()["columns"], (table,)).fetchall()
        keys = [_quoted(name) for name, place in sorted(columns, key=lambda column: int(column[1])) if place]
        order = f"ORDER BY {', '.join(keys) or 'rowid'}"
        source = f"FROM {_quoted(table)} {order}"
        try:
            return self._rows(sql, f"SELECT * {source}")
        except UnicodeDecodeError:  # text that is none: a bad disk, or another program
            every = ", ".join(f"typeof({_quoted(name)}), hex({_quoted(name)})" for name, _ in columns)
            return self._rows(sql, f"SELECT {every} {source}")

    def _rows(self, sql: str, query: str) -> TableDigest:
        digest, count = blake2b(sql.encode("utf-8", "backslashreplace"), digest_size=16), 0
        encode = msgspec.msgpack.Encoder().encode
        rows: Iterator[tuple[Any, ...]] = iter(self.connection.execute(query))
        while some := list(islice(rows, ROWS)):
            digest.update(encode(some))
            count += len(some)
        return TableDigest(count, digest.hexdigest())


@contextmanager
def standing_still(path: Path) -> Iterator[None]:
    """Keep everyone from writing while the block runs: milliseconds, no more. Raises `StoreBusy`."""
    connection = open_connection(path, checkpoints="never")
    try:
        with translated(path):
            connection.execute("BEGIN IMMEDIATE")
        yield
    finally:
        connection.close()


def copy(path: Path, to: Path, stop: threading.Event | None = None) -> None:
    """Write the file as it is now, without its free pages, to a path that is not there yet.

    Writers are not held up; the log grows meanwhile, by what they write. Ends with an error once `stop` is set. Raises
    `StoreError`.
    """
    if not path.exists():
        raise StoreError(f"there is no database {path}", hint="check the path")
    os.close(os.open(to, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
    connection = open_connection(path, checkpoints="never")
    _listen(connection, stop)
    try:
        with translated(path):
            connection.execute("VACUUM INTO ?", (os.fspath(to),))
    finally:
        connection.close()
    made = open_connection(to)
    try:
        with translated(to):
            made.pragma("journal_mode", "wal")
    finally:
        made.close()


def lost(before: Path, after: Path) -> tuple[int, int]:
    """Compare two states of one database: give how many events of the earlier one are missing or different in the later
    one, and how many executions were deleted since (`gc` does that). Raises `StoreError`."""
    connection = apsw.Connection(os.fspath(after), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        with translated(after):
            connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
            connection.execute(queries()["attach_before"], (os.fspath(before),))
            events: int = connection.execute(queries()["lost_events"]).get
            executions: int = connection.execute(queries()["lost_executions"]).get
    finally:
        connection.close()
    return events, executions


def _listen(connection: apsw.Connection, stop: threading.Event | None) -> None:
    if stop is not None:
        connection.set_progress_handler(stop.is_set, STEPS)


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


__all__ = ["Moment", "TableDigest", "copy", "lost", "standing_still"]
