"""The syncs of commits, counted, and failing where one wishes.

Syncs are no system calls that SQLite lets a test replace, so these fail one layer up, in a VFS. The syncs of
checkpoints do not fail here: SQLite does not report those after a commit or on closing, and apsw, which carries an
error of a VFS written in Python past it, would.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import apsw


class Syncs(apsw.VFS):
    """The default VFS while the block runs. `fault` says of sync number n of a commit whether it fails."""

    def __init__(self, fault: Callable[[int], bool] = lambda number: False) -> None:
        self.fault = fault
        self.count = 0
        self.failed: list[int] = []

    def __enter__(self) -> Self:
        self.base = apsw.vfs_names()[0]
        super().__init__("perdure-syncs", base=self.base, makedefault=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unregister()

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return SyncedFile(self, name, flags)


class SyncedFile(apsw.VFSFile):
    def __init__(self, syncs: Syncs, name: Any, flags: list[int]) -> None:
        super().__init__(syncs.base, name, flags)
        self.syncs = syncs
        self.is_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        self.written = False

    def xLock(self, level: int) -> None:
        try:
            super().xLock(level)
        except apsw.IOError as error:  # of a read-only file when it is closed: SQLite ignores it, apsw would raise it
            raise apsw.BusyError from error

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self.written = True

    def xSync(self, flags: int) -> None:
        commits, self.written = self.is_log and self.written, False
        if commits:  # a checkpoint syncs the log without having written to it
            self.syncs.count += 1
            if self.syncs.fault(self.syncs.count):
                self.syncs.failed.append(self.syncs.count)
                raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        super().xSync(flags)
