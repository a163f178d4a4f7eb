"""Opening the file, and what its errors mean.

Every connection of ours is in WAL mode and waits for other writers. `full` durability syncs each commit to the
disk; `normal` syncs at checkpoints only: a power cut can lose the newest commits, a crash of the process cannot.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import apsw

from perdure.errors import NotOurFile, RowRefused, StoreBusy, StoreError, StoreFull, StoreReadOnly

Synchronous = Literal["full", "normal"]
Checkpoints = Literal["always", "alone", "never"]
"""When commits move the log into the file: `always` for a runner; `never` where a replicator decides; `alone` for
everyone else: only when the log is long and there is no runner that would do it."""
BUSY_S = 10.0
"""How long a write waits for another process's transaction."""


def open_connection(
    path: Path,
    synchronous: Synchronous = "full",
    *,
    read_only: bool = False,
    checkpoints: Checkpoints = "always",
    factory: Callable[..., apsw.Connection] = apsw.Connection,
) -> apsw.Connection:
    """Open one connection, made by `factory`. Raises `StoreError` when the file cannot be opened."""
    flags = apsw.SQLITE_OPEN_READONLY if read_only else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    with translated(path):
        connection = factory(os.fspath(path), flags=flags, statementcachesize=200)
        try:
            _set_up(connection, synchronous, read_only, checkpoints)
        except BaseException:
            connection.close()  # whoever keeps the error must not keep the file open with it
            raise
    return connection


def _set_up(connection: apsw.Connection, synchronous: Synchronous, read_only: bool, checkpoints: Checkpoints) -> None:
    connection.set_busy_handler(Patience())
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.config(apsw.SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0)
    connection.pragma("synchronous", synchronous.upper())
    if checkpoints != "always":
        connection.pragma("wal_autocheckpoint", 0)
    if checkpoints == "never":
        connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.pragma("cache_size", -16_384 if not read_only else -4_096)
    if sys.platform == "darwin" and synchronous == "full":
        connection.pragma("fullfsync", 1)  # macOS's fsync alone leaves the data in the drive's cache
        connection.pragma("checkpoint_fullfsync", 1)


class Patience:
    """A busy handler that looks again soon at first: another process's commit takes a fraction of a millisecond."""

    def __init__(self, limit_s: float | None = None) -> None:
        self.limit_s = BUSY_S if limit_s is None else limit_s
        self.since = 0.0

    def __call__(self, tries: int) -> bool:
        now = time.monotonic()
        if tries == 0:
            self.since = now
        elif now - self.since > self.limit_s:
            return False
        time.sleep(0.000_05 if tries < 20 else 0.002)
        return True


def use_wal(connection: apsw.Connection) -> None:
    """Put a file into WAL mode. While another connection is about to write SQLite refuses that without asking the busy
    handler: two that wait for each other's lock would wait for ever."""
    patience, tries = Patience(), 0
    while True:
        try:
            connection.pragma("journal_mode", "wal")
            return
        except apsw.BusyError:
            if not patience(tries):
                raise
            tries += 1


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours."""
    try:
        yield
    except apsw.Error as error:
        raise translate(path, error) from error


def translate(path: Path, error: apsw.Error) -> StoreError:
    match error:
        case apsw.BusyError() | apsw.LockedError() | apsw.ProtocolError():
            return StoreBusy(
                f"{path}: another process kept the write lock for more than {BUSY_S:g} s",
                hint="look for a long transaction in another program that has this file open",
            )
        case apsw.FullError():
            return StoreFull(
                f"{path}: no room on the disk", hint="free space; perdure goes on by itself when there is room"
            )
        case apsw.ConstraintError() | apsw.MismatchError() | apsw.TooBigError():
            return RowRefused(f"{path}: {error}", hint="another program may have written to perdure's tables")
        case apsw.NotADBError():
            return NotOurFile(f"{path} is not a SQLite database", hint="name another file; this one was left as it is")
        case apsw.CantOpenError():
            return StoreError(
                f"{path} cannot be opened: {error}", hint="check that its folder exists and may be written to"
            )
        case apsw.ReadOnlyError() | apsw.PermissionsError() | apsw.AuthError():
            return StoreReadOnly(
                f"{path} may not be written to: {error}", hint="check the permissions of the file and its folder"
            )
        case apsw.CorruptError():
            hint = (  # SQLite says the same of a disk that fails to read
                "see what the system's log says of its disk; if nothing, restore a backup, "
                f"or try `sqlite3 {path.name} .recover`"
            )
            return StoreError(f"{path} is damaged, or its disk cannot read it: {error}", hint=hint)
        case apsw.IOError() if getattr(error, "extendedresult", 0) == apsw.SQLITE_IOERR_SHMSIZE:
            hint = "free space, or see what the system's log says of its disk; perdure goes on by itself"
            return StoreFull(f"{path}: its -shm file cannot be made larger", hint=hint)
        case apsw.IOError():
            code = apsw.mapping_extended_result_codes.get(getattr(error, "extendedresult", 0), "SQLITE_IOERR")
            hint = "see what the system's log says of its disk; perdure goes on by itself when the disk does"
            return StoreError(f"{path}: its disk reported an error ({code})", hint=hint)
        case _:
            hint = "`perdure doctor` checks the file; if it finds nothing wrong, please report this"
            return StoreError(f"{path}: {type(error).__name__}: {error}", hint=hint)
