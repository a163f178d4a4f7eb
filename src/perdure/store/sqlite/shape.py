"""Whether perdure's tables are as perdure made them.

A file from a stranger may have other tables under their names, views in their place, or triggers, indexes and
constraints on them that refuse or change what is written. Everything else that is kept beside them is its owner's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import apsw

from perdure.errors import NotOurFile, StoreError

Found = dict[tuple[str, str], tuple[str, str | None]]
"""What a schema holds: (type, name) to (table, SQL); names in lower case, as SQLite compares them."""

_READ = """SELECT v.user_version, m.type, CAST(m.name AS BLOB), CAST(m.tbl_name AS BLOB), CAST(m.sql AS BLOB)
FROM pragma_user_version v LEFT JOIN sqlite_master m"""


def version_of(connection: apsw.Connection, path: Path, make: Callable[[apsw.Connection, int], None]) -> int:
    """Give the schema version of one of our files, after looking that its tables are those of that version; `make`
    writes those. Version and tables are of one moment: another process may be at work on both.

    Raises `NotOurFile` or `StoreError`.
    """
    rows = list(connection.execute(_READ))
    version = int(rows[0][0])
    found: Found = {(row[1], _lower(row[2])): (_lower(row[3]), _text(row[4])) for row in rows if row[1] is not None}
    for key, problem in _differences(found, _expected(version, make)):
        kind, name = key
        if problem == "foreign":
            raise StoreError(
                f"{path}: perdure did not make the {kind} {name!r} on its table {found[key][0]}",
                hint=f"remove it with the sqlite3 program (DROP {kind.upper()} …), or keep it on a copy of the table",
            )
        raise NotOurFile(
            f"{path}: its {kind} {name} is {problem}", hint="the file was changed by another program: restore a backup"
        )
    return version


def _differences(found: Found, expected: Found) -> list[tuple[tuple[str, str], str]]:
    tables = {name for kind, name in expected if kind == "table"}
    ours = {name for _, name in expected}
    missing = [(key, "missing") for key in expected if key not in found]
    changed = [(key, "not as perdure made it") for key in expected if found.get(key, expected[key]) != expected[key]]
    foreign = [(key, "foreign") for key in found if key not in expected and (found[key][0] in tables or key[1] in ours)]
    return [*foreign, *changed, *missing]


@cache
def _expected(version: int, make: Callable[[apsw.Connection, int], None]) -> Found:
    connection = apsw.Connection(":memory:")
    make(connection, version)
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master WHERE name <> 'sqlite_sequence'")
    found = {(kind, name.lower()): (table.lower(), sql) for kind, name, table, sql in rows}
    connection.close()
    return found


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def _lower(raw: bytes) -> str:
    return raw.decode("utf-8", "backslashreplace").lower()
