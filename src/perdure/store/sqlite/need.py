"""What a file that nobody runs waits for: read with one connection that is closed again, for who looks after many."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from perdure.errors import StoreError
from perdure.store.sqlite import schema
from perdure.store.sqlite.connection import open_connection, translated
from perdure.store.sqlite.queries import queries


class Need(NamedTuple):
    """`due_at` is in microseconds since 1970."""

    runnable: bool
    """Something is pending, or was running when its runner stopped."""
    blocked: bool
    """Something is blocked: other code may be able to go on with it."""
    newest_request: int
    """The number of the newest request in the inbox; 0 when there is none."""
    due_at: int | None


NOTHING = Need(False, False, 0, None)


def need(path: Path) -> Need:
    """Look at a file. A file without tables yet, or of an older schema, is for an engine. Raises `StoreError`."""
    if not path.exists():
        raise StoreError(f"there is no database {path}")
    connection = open_connection(path, checkpoints="alone")
    try:
        with translated(path):
            version = schema.check(connection, path)
            if version < len(schema.migrations()):
                return Need(version > 0, False, 0, None)
            runnable, blocked, newest, due_at = next(connection.execute(queries()["need"]))
    finally:
        connection.close()
    if newest.__class__ is not int or (due_at is not None and due_at.__class__ is not int):
        raise StoreError(f"{path} is damaged: its timers or requests are not what they should be")
    return Need(bool(runnable), bool(blocked), newest, due_at)
