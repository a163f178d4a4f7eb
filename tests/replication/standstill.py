"""Stands still in the middle of a commit. What it writes is in the log by then, and no other connection sees it: SQLite
tells them when it is synced."""

from __future__ import annotations

import time
from typing import Any

import apsw

armed = False
_kept: list[apsw.VFS] = []


def install() -> None:
    """Make all connections of this process do so, once `arm` was called."""
    _kept.append(Standstill())


def arm() -> None:
    global armed
    armed = True


class Standstill(apsw.VFS):
    def __init__(self) -> None:
        self.base = apsw.vfs_names()[0]
        super().__init__("standstill", base=self.base, makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return File(self.base, name, flags)


class File(apsw.VFSFile):
    def __init__(self, base: str, name: Any, flags: list[int]) -> None:
        super().__init__(base, name, flags)
        self.is_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)

    def xSync(self, flags: int) -> None:
        if self.is_log and armed:
            print("half", flush=True)
            time.sleep(3600)
        super().xSync(flags)
