"""Owns a book and its Litestream, and stands still in the middle of a commit: `half_commit.py BOOK URL`.

What the commit writes is in the log by then, and no other connection sees it: SQLite tells them when it is synced.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

import apsw
from streaming import Book, supervisor, uploaded

from perdure.replication.target import Target

PAGE = "x" * 3000
MANY = 1_500
"""Pages, so that Litestream wants to empty the log."""
armed = False


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


async def main(path: Path, url: str) -> None:
    global armed
    book = Book(path)
    made = supervisor(book, Target.parse(url))
    await made.start()
    await made.ready()
    await uploaded(made, path)
    print(made.pid, flush=True)
    add(book, MANY)
    armed = True
    add(book, 300)


def add(book: Book, count: int) -> None:
    with book.connection:
        book.add(count, PAGE)


standstill = Standstill()
asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
