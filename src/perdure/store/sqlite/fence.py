"""What a transactional activity may do inside the runner's transaction: its own tables, and none of ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from perdure.errors import PerdureError


class Fence:
    """Decides, while a transactional activity's statements are prepared, what they may touch.

    Set once: installing an authorizer makes SQLite prepare every statement again.
    """

    _CONTROL = frozenset(
        {apsw.SQLITE_TRANSACTION, apsw.SQLITE_SAVEPOINT, apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH, apsw.SQLITE_PRAGMA}
    )
    _WRITES = frozenset(
        {
            apsw.SQLITE_INSERT, apsw.SQLITE_UPDATE, apsw.SQLITE_DELETE, apsw.SQLITE_DROP_TABLE,
            apsw.SQLITE_CREATE_TRIGGER, apsw.SQLITE_CREATE_INDEX, apsw.SQLITE_DROP_INDEX, apsw.SQLITE_CREATE_TABLE,
            apsw.SQLITE_CREATE_VIEW, apsw.SQLITE_DROP_VIEW, apsw.SQLITE_DROP_TRIGGER, apsw.SQLITE_CREATE_VTABLE,
            # a temporary table of our name would hide ours from us
            apsw.SQLITE_CREATE_TEMP_TABLE, apsw.SQLITE_CREATE_TEMP_VIEW, apsw.SQLITE_CREATE_TEMP_INDEX,
            apsw.SQLITE_CREATE_TEMP_TRIGGER,
        }
    )  # fmt: skip
    _VIEWS = frozenset({"executions", "history", "pending_activities", "timers", "failures"})
    _COUNTERS = "sqlite_sequence"  # ours and the user's: what it counts must never be given twice

    def __init__(self, connection: apsw.Connection) -> None:
        self.closed_to_user = True
        self.refused = ""

    def authorize(
        self, operation: int, one: str | None, two: str | None, database: str | None, trigger: str | None
    ) -> int:
        if self.closed_to_user:
            return apsw.SQLITE_OK
        if operation in self._CONTROL:
            self.refused = "transaction control, ATTACH and PRAGMA are not allowed in a transactional activity"
            return apsw.SQLITE_DENY
        if operation == apsw.SQLITE_ALTER_TABLE and self._ours(two):
            self.refused = f"{two} is perdure's own table"
            return apsw.SQLITE_DENY
        if operation in self._WRITES and (self._ours(one) or self._ours(two)):
            self.refused = f"{one} is perdure's own"
            return apsw.SQLITE_DENY
        return apsw.SQLITE_OK

    def _ours(self, name: str | None) -> bool:
        if name is None:
            return False
        lower = name.lower()
        return lower.startswith("perdure_") or lower in self._VIEWS or lower == self._COUNTERS


class SqliteTransaction:
    """What a transactional activity gets: see `store.Transaction`."""

    def __init__(self, connection: apsw.Connection, fence: Fence) -> None:
        self._connection: apsw.Connection | None = connection
        self._fence = fence

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        with self._open() as connection:
            # not from the cache: a statement that we have run before would not be put before the fence again
            return list(connection.execute(sql, parameters, can_cache=False))

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any] | Mapping[str, Any]]) -> None:
        with self._open() as connection:
            connection.executemany(sql, parameters, can_cache=False)

    @contextmanager
    def _open(self) -> Iterator[apsw.Connection]:
        if self._connection is None:
            raise PerdureError(
                "this transaction has ended",
                hint="use it only inside the transactional activity that it was passed to, on the same thread",
            )
        self._fence.closed_to_user, self._fence.refused = False, ""
        try:
            yield self._connection
        except apsw.AuthError as error:
            raise PerdureError(self._fence.refused or str(error)) from error
        finally:
            self._fence.closed_to_user = True

    def close(self) -> None:
        self._connection = None
