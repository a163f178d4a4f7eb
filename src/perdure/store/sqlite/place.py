"""Whether the files of an open database are still the ones that lie under its name.

SQLite goes on writing to files that were deleted or replaced while they were open: what it says is committed would be
lost with the process, and another process that opens the name would get other files. So each transaction asks here.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from perdure.errors import StoreReplaced

SETTLED_NS = 100_000_000
"""A folder that changed less long ago may change again without its time telling."""


class Place:
    """The files of one connection, all of them while it is in a transaction.

    The folder's change time tells whether there is anything to look at: one question to the system for each commit.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._folder = os.fspath(path.parent)
        self._paths = [f"{path}{end}" for end in ("", "-wal", "-shm")]
        self._database = _identity(self._paths[0])
        self._known: list[tuple[int, int] | None] = []
        self._seen = -1

    def check(self) -> None:
        """Raise `StoreReplaced` when a file is gone or another one. Called inside a transaction."""
        try:
            changed = os.stat(self._folder).st_mtime_ns
        except OSError:
            changed = -1
        if changed == self._seen and changed >= 0:
            return
        found = [_identity(path) for path in self._paths]
        if not self._known and found[0] == self._database and None not in found:
            self._known = found  # the log is made with the first transaction
        if found != self._known:
            self._refuse(found)
        self._seen = changed if time.time_ns() - changed > SETTLED_NS else -1

    @property
    def left(self) -> bool:
        """Whether the database no longer lies under its name."""
        return _identity(self._paths[0]) != self._database

    def _refuse(self, found: list[tuple[int, int] | None]) -> None:
        known = self._known or [self._database, None, None]
        name, now = next(
            (path, now) for path, now, then in zip(self._paths, found, known, strict=True) if now is None or now != then
        )
        raise StoreReplaced(
            f"{name} was {'removed' if now is None else 'replaced'} while it was open",
            hint="put it back, or restart this process to work on what is there now; "
            "never move or delete a database, its -wal or its -shm while a process has it open",
        )


def _identity(path: str) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
