"""What a new runner looks at before it trusts the file, and what it does about what it finds."""

from __future__ import annotations

import contextlib
import logging
import os
from pathlib import Path

import apsw

from perdure.errors import StoreError
from perdure.store.sqlite.connection import translated, use_wal
from perdure.store.sqlite.doorbell import Doorbell
from perdure.store.sqlite.queries import queries

logger = logging.getLogger("perdure.store")

CHECK_UP_TO_BYTES = 32 * 1024 * 1024
"""Files up to this size are checked whole; larger ones would delay the start. `perdure doctor` checks any size."""
LOW_SPACE_BYTES = 64 * 1024 * 1024
LAST_REQUEST = 2**63 - 2**40
LAST_EXECUTION = 2**39 - 2**24
"""A part of the key of each event."""


def use_log(connection: apsw.Connection) -> None:
    """Put the file into WAL mode: another tool may have changed that, or a power cut while the file was made. Without
    it a commit at `full` is not sure to survive a power cut."""
    if connection.pragma("journal_mode") != "wal":
        use_wal(connection)


def examine(connection: apsw.Connection, path: Path) -> None:
    """Remove what dead processes left, warn of a nearly full disk.

    Raises `StoreError` when the file is damaged: running on would make it worse.
    """
    with translated(path):
        if os.path.getsize(path) <= CHECK_UP_TO_BYTES:
            lines = [str(row[0]) for row in connection.execute("PRAGMA quick_check(3)")]
            if lines != ["ok"]:
                raise StoreError(
                    f"{path} is damaged: {'; '.join(lines)}",
                    hint="keep a copy of it, restore a backup, or try `sqlite3 damaged.db .recover`",
                )
        _check_numbers(connection, path)
    Doorbell(path).remove_stale()
    with contextlib.suppress(OSError):
        room = os.statvfs(path.parent)
        free = room.f_bavail * room.f_frsize
        if free < LOW_SPACE_BYTES:
            logger.warning("%s: only %d MiB are free on its disk", path, free // 1024**2)


def _check_numbers(connection: apsw.Connection, path: Path) -> None:
    """See that there are numbers left to give, and that no new execution gets one under which there are events."""
    executions, deleted, events, requests = next(connection.execute(queries()["numbers"]))
    if max(executions, deleted or 0, events) > LAST_EXECUTION or requests > LAST_REQUEST:
        raise StoreError(
            f"{path} is damaged: its numbers are used up", hint="another program wrote to it: restore a backup"
        )
    if (deleted or 0) < 0 or events > max(executions, deleted or 0):
        connection.execute(queries()["put_meta"], ("last_num", max(executions, events)))
