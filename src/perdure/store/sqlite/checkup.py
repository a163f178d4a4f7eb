"""Checking a file: what `perdure doctor` runs."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from perdure.store.sqlite.reader import Reader, shown

WAL_RESET_FIXED = (3, 51, 3)


Finding = tuple[str, bool, str]
"""What was checked, whether it is well, and the detail."""


def sqlite_version() -> str:
    return apsw.sqlite_lib_version()


def check(reader: Reader, quick: bool) -> Iterator[Finding]:
    """Give the findings one by one. Quick leaves out what takes time in proportion to all histories."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    fixed = "the WAL-reset fix is in" if version >= WAL_RESET_FIXED else "has the WAL-reset bug: upgrade apsw"
    yield "sqlite", version >= WAL_RESET_FIXED, f"{apsw.sqlite_lib_version()}, {fixed}"
    connection = reader.connection
    mode = connection.pragma("journal_mode")
    yield "journal", mode == "wal", f"{mode} (wal expected)"
    vacuum = connection.pragma("auto_vacuum")
    detail = f"schema {connection.pragma('user_version')}, pages of {connection.pragma('page_size'):,} bytes"
    yield "settings", vacuum == 2, f"{detail}, auto_vacuum {('off', 'full', 'incremental')[vacuum]}"
    size = connection.pragma("page_size") * connection.pragma("page_count")
    yield "size", True, f"{size:,} bytes, {connection.pragma('freelist_count'):,} free pages"
    lines = [str(row[0]) for row in connection.execute(f"PRAGMA {'quick_check' if quick else 'integrity_check'}(5)")]
    yield "integrity", lines == ["ok"], "; ".join(lines)
    if not quick:
        yield from _histories(reader)


def _histories(reader: Reader) -> Iterator[Finding]:
    gaps = [f"{shown(row[0])}, run {row[1]}" for row in reader.rows("gaps")]
    detail = f"gaps in the history of {'; '.join(gaps)}" if gaps else "every history runs from 1 without gaps"
    yield "histories", not gaps, detail
    orphans = reader.rows("orphans")[0][0]
    yield "events", not orphans, f"{orphans} without an execution" if orphans else "every event has its execution"
    wrong = [str(shown(row[0])) for row in reader.rows("open_without_end")]
    detail = f"not as the history of {', '.join(wrong)} says" if wrong else "statuses agree with the histories"
    yield "statuses", not wrong, detail
