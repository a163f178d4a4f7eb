"""Whether a file is ours, and bringing it to today's schema.

Our files carry `application_id` 0x70647572 ("pdur") and in `user_version` the number of the last migration. A
migration is never edited once released; each runs in one transaction with its version.
"""

from __future__ import annotations

import uuid
from functools import cache
from pathlib import Path

import apsw

from perdure.errors import NotOurFile, SchemaTooNew
from perdure.events import Kind
from perdure.store.sqlite import shape
from perdure.store.sqlite.connection import use_wal
from perdure.store.sqlite.queries import sql_file

APPLICATION_ID = 0x70647572
PAGE_BYTES = 2048
"""Of new files. A commit writes whole pages for a hundred bytes here and there: with small ones it is cheaper, and less
goes to a replica. Smaller still, large values would cost more."""


@cache
def migrations() -> tuple[str, ...]:
    """Give the migrations' SQL in order; the first brings a file to version 1."""
    return tuple(sql_file(f"migrations/{name}.sql") for name in ("0001_initial", "0002_views"))


def check(connection: apsw.Connection, path: Path) -> int:
    """Give the file's schema version, 0 for an empty one. Raises `NotOurFile` or `SchemaTooNew`; changes nothing."""
    tables = connection.execute("SELECT count(*) FROM sqlite_master").get  # first: it may just be being made
    application, version = connection.pragma("application_id"), connection.pragma("user_version")
    if application == 0 and tables == 0:
        return 0
    if application != APPLICATION_ID:
        raise NotOurFile(
            f"{path} is a SQLite database, but not one of perdure's",
            hint="name another file; to keep your tables beside perdure's, let perdure create the file first",
        )
    if version > len(migrations()):
        raise SchemaTooNew(
            f"{path} has schema version {version}; this perdure knows up to {len(migrations())}",
            hint="upgrade perdure: pip install --upgrade perdure",
        )
    if version < 1:
        raise NotOurFile(f"{path} has schema version {version}, which there is not", hint="restore a backup")
    return shape.version_of(connection, path, _make)


def migrate(connection: apsw.Connection, path: Path) -> None:
    """Bring the file to today's version. Several processes may try at once; one does it."""
    if check(connection, path) == len(migrations()):
        return
    if check(connection, path) == 0:
        connection.pragma("page_size", PAGE_BYTES)  # this and the next must come before the first table
        connection.pragma("auto_vacuum", 2)  # incremental
    use_wal(connection)
    while (version := check(connection, path)) < len(migrations()):
        connection.execute("BEGIN IMMEDIATE")
        with connection_transaction(connection):
            if check(connection, path) == version:
                _apply(connection, version)


class connection_transaction:  # reads as a statement
    """Commit at the end of the block, roll back when it raises."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            self.connection.execute("COMMIT")
        elif self.connection.in_transaction:
            self.connection.execute("ROLLBACK")


def _make(connection: apsw.Connection, version: int) -> None:
    """Write the tables of a version into an empty database."""
    for sql in migrations()[:version]:
        connection.execute(sql)


def _apply(connection: apsw.Connection, version: int) -> None:
    connection.execute(migrations()[version])
    if version == 0:
        connection.pragma("application_id", APPLICATION_ID)
        connection.executemany(
            "INSERT INTO perdure_meta (key, value) VALUES (?, ?)",
            [("database_id", str(uuid.uuid4())), ("runner_epoch", 0)],
        )
    connection.executemany(
        "INSERT OR IGNORE INTO perdure_kind (code, name) VALUES (?, ?)",
        [(kind.value, kind.name.lower()) for kind in Kind],
    )
    connection.pragma("user_version", version + 1)
