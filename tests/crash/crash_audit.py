"""Checks what a killed worker left behind, between its death and the next start and at the end."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from perdure.events import Kind
from perdure.store.sqlite import SqliteStore


class Effect(NamedTuple):
    """One line of the ledger: an attempt that took effect."""

    execution: str
    run: int
    seq: int
    attempt: int
    key: str
    pid: int
    at_ns: int

    @property
    def activity(self) -> tuple[str, int, int]:
        return self.execution, self.run, self.seq


class Audit:
    """Reads the ledger and the database, each time from where the last look ended."""

    def __init__(self, database: Path, ledger: Path) -> None:
        self.database = database
        self.ledger = ledger
        self.completed: set[tuple[str, int, int]] = set()
        """Activities whose end is in the log, (execution, run, seq), as of the last look."""
        self.attempts: set[tuple[str, int, int, int]] = set()
        self.effects = 0
        self.repeated = 0
        """Effects of attempts after the first of an activity: those that were interrupted or failed."""
        self.keys: set[tuple[str, str]] = set()
        """What took effect at least once: (execution, key)."""
        self._offset = 0

    def look(self) -> None:
        """Check everything. No worker may run: two reads must see the same."""
        self.watch()
        self._check_store()
        self._check_tally()

    def watch(self) -> list[Effect]:
        """Check the new effects, also while workers run, and give them.

        The log is read before the ledger: what comes into that later, of an activity that had ended, ran again.
        """
        ended = self._ends()
        fresh = self.read_ledger()
        for effect in fresh:
            where = f"{effect} (seen in the log as completed before)"
            assert effect.activity not in self.completed, f"a completed activity ran again: {where}"
            attempt = (*effect.activity, effect.attempt)
            assert attempt not in self.attempts, f"an attempt ran twice: {effect}"
            self.attempts.add(attempt)
            self.keys.add((effect.execution, effect.key))
            self.repeated += effect.attempt > 1
        self.effects += len(fresh)
        self.completed |= ended
        return fresh

    def read_ledger(self) -> list[Effect]:
        """Give the effects since the last call."""
        if not self.ledger.exists():
            return []
        with self.ledger.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        assert data == b"" or data.endswith(b"\n"), "a torn line in the ledger"
        return [_effect(line) for line in data.decode().splitlines()]

    def _ends(self) -> set[tuple[str, int, int]]:
        sql = (
            "SELECT x.id, x.run, e.ref FROM perdure_event e JOIN perdure_execution x ON x.num = e.execution "
            f"WHERE e.kind IN ({Kind.ACTIVITY_COMPLETED}, {Kind.ACTIVITY_FAILED})"
        )
        return {(id, run, ref) for id, run, ref in self.rows(sql)}

    def _check_store(self) -> None:
        store = SqliteStore(self.database, create=False)
        try:
            bad = [entry for entry in store.check(quick=False) if not entry[1]]
        finally:
            store.close()
        assert not bad, f"the database is not sound: {bad}"

    def _check_tally(self) -> None:
        """Compare the rows of transactional activities with their completions in the log: the very same."""
        if not self.rows("SELECT 1 FROM sqlite_master WHERE name = 'tally'"):
            return
        rows = Counter(self.rows("SELECT execution, n FROM tally"))
        twice = [row for row, count in rows.items() if count > 1]
        assert not twice, f"transactional activities took effect twice: {twice}"
        logged = self.rows(
            "SELECT s.data ->> '$.execution', s.data ->> '$.n' FROM perdure_event e "
            "JOIN perdure_event s ON s.execution = e.execution AND s.seq = e.ref "
            f"WHERE e.kind = {Kind.ACTIVITY_COMPLETED} AND s.name = 'tally'"
        )
        assert set(rows) == set(logged), f"rows and log differ: {set(rows) ^ set(logged)}"

    def rows(self, sql: str) -> list[Any]:
        connection = apsw.Connection(str(self.database), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            return connection.execute(sql).fetchall()
        finally:
            connection.close()


def _effect(line: str) -> Effect:
    execution, run, seq, attempt, key, pid, at_ns = line.split(" ")
    return Effect(execution, int(run), int(seq), int(attempt), key, int(pid), int(at_ns))
