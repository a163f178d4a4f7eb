"""Owns a book and its Litestream, and stands still in the middle of a commit: `half_commit.py BOOK URL`.

What the commit writes is in the log by then, and no other connection sees it: SQLite tells them when it is synced.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import standstill
from streaming import Book, supervisor, uploaded

from perdure.replication.target import Target

PAGE = "x" * 3000
MANY = 1_500
"""Pages, so that Litestream wants to empty the log."""


async def main(path: Path, url: str) -> None:
    book = Book(path)
    made = supervisor(book, Target.parse(url))
    await made.start()
    await made.ready()
    await uploaded(made, path)
    print(made.pid, flush=True)
    add(book, MANY)
    standstill.arm()
    add(book, 300)


def add(book: Book, count: int) -> None:
    with book.connection:
        book.add(count, PAGE)


standstill.install()
asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
