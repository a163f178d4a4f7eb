"""Checking a file: what `perdure doctor` runs."""

from __future__ import annotations

from collections.abc import Iterator

import apsw

from perdure.store.sqlite.queries import queries
from perdure.store.sqlite.reader import Reader

WAL_RESET_FIXED = (3, 51, 3)


def check(reader: Reader, quick: bool) -> Iterator[tuple[str, bool, str]]:
    """Give (what, ok, detail) for each check. The quick ones take time in proportion to what is open only."""
    version = tuple(int(part) for part in apsw.sqlite_lib_version().split("."))
    fixed = "the WAL-reset fix is in" if version >= WAL_RESET_FIXED else "has the WAL-reset bug: upgrade apsw"
    yield "sqlite", version >= WAL_RESET_FIXED, f"{apsw.sqlite_lib_version()}, {fixed}"
    pragmas = {
        name: reader.connection.pragma(name) for name in ("journal_mode", "page_size", "page_count", "freelist_count")
    }
    yield "journal", pragmas["journal_mode"] == "wal", f"{pragmas['journal_mode']} (wal expected)"
    size = pragmas["page_size"] * pragmas["page_count"]
    yield "size", True, f"{size:,} bytes, {pragmas['freelist_count']:,} free pages"
    problem = reader.connection.execute(f"PRAGMA {'quick_check' if quick else 'integrity_check'}(5)").fetchall()
    yield "integrity", problem == [("ok",)], "; ".join(row[0] for row in problem)
    if quick:
        return
    sql = queries()
    gaps = reader.connection.execute(sql["gaps"]).fetchall()
    detail = (
        "every history runs from 1 without gaps"
        if not gaps
        else f"gaps or no events in {', '.join(f'{g[0]} run {g[1]}' for g in gaps)}"
    )
    yield "histories", not gaps, detail
    orphans = reader.connection.execute(sql["orphans"]).fetchone()[0]
    yield (
        "events",
        not orphans,
        f"{orphans} events without an execution" if orphans else "every event has its execution",
    )
    wrong = reader.connection.execute(sql["open_without_end"]).fetchall()
    detail = (
        "statuses agree with the histories"
        if not wrong
        else f"status does not fit the history of {', '.join(w[0] for w in wrong)}"
    )
    yield "statuses", not wrong, detail
