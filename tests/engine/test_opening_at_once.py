"""Several processes that open a new file at the same moment."""

from __future__ import annotations

import threading

import apsw
import pytest

from perdure.store.sqlite import SqliteStore, schema
from perdure.store.sqlite.connection import open_connection


@pytest.mark.parametrize("how", ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE", "BEGIN; SELECT * FROM sqlite_master"])
def test_who_opens_a_file_that_another_process_is_just_making_waits_for_it(database, how):
    """SQLite does not wait by itself when the journal mode changes and another connection is about to write."""
    other = apsw.Connection(str(database))
    other.pragma("auto_vacuum", 2)
    other.execute(how)
    opened = threading.Event()
    errors: list[BaseException] = []

    def open_it() -> None:
        try:
            SqliteStore(database).close()
        except BaseException as error:
            errors.append(error)
        opened.set()

    opening = threading.Thread(target=open_it)
    opening.start()
    assert not opened.wait(0.2), errors
    other.execute("ROLLBACK")
    opening.join(20)
    other.close()
    assert not errors
    assert [what for what, ok, _ in SqliteStore(database).check(quick=False) if not ok] == []


@pytest.mark.parametrize("moment", range(1, 4))
def test_a_file_that_another_process_makes_while_we_look_at_it_is_ours(database, moment):
    database.touch()
    connection = open_connection(database)
    seen = [0]

    def made_in_between(cursor: object, sql: str, bindings: object) -> bool:
        seen[0] += 1
        if seen[0] == moment:
            SqliteStore(database).close()
        return True

    connection.exec_trace = made_in_between
    assert schema.check(connection, database) in (0, len(schema.migrations()))
    connection.exec_trace = None
    assert seen[0] >= 2
    assert schema.check(connection, database) == len(schema.migrations())
    connection.close()
