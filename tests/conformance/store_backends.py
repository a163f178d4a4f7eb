"""The stores that the suite runs against. Another backend is one more entry in `BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import apsw

from perdure.codec.payload import Payloads
from perdure.store import Store
from perdure.store.sqlite import SqliteStore


class Backend(Protocol):
    """One database and what the suite has to know of it beside the protocol."""

    def open(self, payloads: Payloads | None = None) -> Store:
        """Open the database as a process of its own would: another store on the same data."""

    def large_payloads(self) -> int:
        """Count the large payloads that are kept apart from their events."""

    def remove_event(self, num: int, seq: int) -> None:
        """Damage the database: take one event out of a history."""

    def set_status(self, num: int, status: str) -> None:
        """Damage the database: make a status say something else than the history."""


class SqliteBackend:
    def __init__(self, folder: Path) -> None:
        self.path = folder / "store.db"

    def open(self, payloads: Payloads | None = None) -> SqliteStore:
        return SqliteStore(self.path, payloads=payloads)

    def large_payloads(self) -> int:
        return self._run("SELECT count(*) FROM perdure_blob")[0][0]

    def remove_event(self, num: int, seq: int) -> None:
        self._run("DELETE FROM perdure_event WHERE execution = ? AND seq = ?", num, seq)

    def set_status(self, num: int, status: str) -> None:
        self._run("UPDATE perdure_execution SET status = ? WHERE num = ?", status, num)

    def _run(self, sql: str, *values: Any) -> list[Any]:
        connection = apsw.Connection(str(self.path))
        try:
            return connection.execute(sql, values).fetchall()
        finally:
            connection.close()


BACKENDS: dict[str, Callable[[Path], Backend]] = {"sqlite": SqliteBackend}
