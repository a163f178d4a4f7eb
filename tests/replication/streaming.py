"""A small database that is streamed by a real Litestream, and what a restore finds of it."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing, suppress
from pathlib import Path
from typing import Any

import apsw

from perdure.errors import StoreBusy
from perdure.replication import litestream
from perdure.replication.control import ControlError
from perdure.replication.litestream import LitestreamFailed, Settings, Source
from perdure.replication.supervisor import Supervisor
from perdure.replication.target import Target
from perdure.store.sqlite.connection import Patience, open_connection

FAST = Settings(interval_s=0.1, final_sync_s=10.0)


class Book:
    """A table of numbers: each `add` is one commit. Opened as the runner opens its file."""

    def __init__(self, path: Path, **options: Any) -> None:
        self.path = path
        self.connection = open_connection(path, **{"checkpoints": "never"} | options)
        self.connection.pragma("journal_mode", "wal")
        self.connection.execute("CREATE TABLE IF NOT EXISTS line (n INTEGER PRIMARY KEY, text TEXT)")
        # not by another SQLite library: one that closes the file drops our locks, and Litestream then cuts the shared
        # memory that we have mapped
        self.written: int = self.connection.execute("SELECT count(*) FROM line").get

    def add(self, count: int = 1, text: str = "") -> int:
        for _ in range(count):
            self.connection.execute("INSERT INTO line VALUES (?, ?)", (self.written, text))
            self.written += 1
        return self.written

    def checkpoint(self) -> None:
        self.connection.set_busy_handler(Patience(0.25))
        with suppress(apsw.BusyError):
            self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self.connection.set_busy_handler(Patience())
        if self.log_bytes():
            raise StoreBusy("a read is under way")

    def log_bytes(self) -> int:
        log = self.path.with_name(self.path.name + "-wal")
        return log.stat().st_size if log.exists() else 0

    def close(self) -> None:
        self.connection.close()


def numbers(path: Path) -> list[int]:
    """The numbers in a file. Never read one with `sqlite3` that is open here: two SQLites in one process take each
    other's locks away."""
    with closing(apsw.Connection(str(path))) as connection:
        return [n for (n,) in connection.execute("SELECT n FROM line ORDER BY n")]


def fetch(target: Target, folder: Path, *more: str) -> list[int]:
    """Restore by Litestream alone; give the numbers. Raises `LitestreamFailed`."""
    path = folder / f"restored-{len(list(folder.glob('restored-*')))}.db"
    arguments = ["restore", "-o", str(path), "-integrity-check", "full", *more, target.litestream_url()]
    litestream.run(arguments, target.credentials(), 60.0)
    if not path.exists():
        raise LitestreamFailed("nothing was restored")
    return numbers(path)


def supervisor(book: Book, target: Target, **settings: Any) -> Supervisor:
    meta = book.path.with_name(f".{book.path.name}-litestream")
    return Supervisor(
        [Source(book.path, meta, target.litestream())],
        book.path.with_name(book.path.name + "-litestream-lock"),
        book.checkpoint,
        settings.pop("settings", FAST),
        target.credentials(),
        **settings,
    )


@asynccontextmanager
async def streaming(book: Book, target: Target, **settings: Any) -> AsyncIterator[Supervisor]:
    """Stream a book until the end of the block. What still runs then is killed."""
    made = supervisor(book, target, **settings)
    await made.start()
    try:
        await asyncio.wait_for(made.ready(), 60.0)
        yield made
    finally:
        await made.stop(upload=False)


async def uploaded(made: Supervisor, path: Path, patience_s: float = 60.0) -> None:
    """Wait until what is committed by now is in the bucket."""
    async with asyncio.timeout(patience_s):
        wanted = None
        while True:
            try:
                found = await asyncio.to_thread(made.control.sync, path)
                wanted = found.txid if wanted is None else wanted
                if found.replicated_txid >= wanted:
                    return
            except ControlError:
                wanted = None
            await asyncio.sleep(0.02)


def alive(pid: int | None) -> bool:
    """Whether a process runs; one that has ended and is not collected yet does not."""
    if pid is None:
        return False
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
