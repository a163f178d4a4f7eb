"""A mixed load fills a disk, twice: whoever asks is told, nothing that anyone was told is lost, and with room
everything goes on by itself to its right end."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import fault_load
import pytest
from fault_load import Book

from perdure import Client, Engine
from perdure.store.sqlite import SqliteStore

ASKERS, TIMES = 4, 6
ROOM = 3 * 1024**2
REFUSED = "no room on the disk"


class Worker:
    """A `perdure worker`; what it says goes into a file on another disk."""

    def __init__(self, database: Path, log: Path) -> None:
        self.database = database
        self.log = log
        self.start()

    def start(self) -> None:
        perdure = Path(sys.executable).with_name("perdure")
        command = [perdure, "worker", fault_load.__file__, "--db", self.database]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@asynccontextmanager
async def served(how: str, database: Path, log: Path) -> AsyncIterator[tuple[Client, Worker | None]]:
    """Have an engine, here or in a worker; give a client of it and the worker. Both write their log into `log`."""
    if how == "engine":
        handler = logging.FileHandler(log)
        logging.getLogger("perdure").addHandler(handler)
        async with Engine(database, [fault_load]) as engine:
            yield engine, None
        logging.getLogger("perdure").removeHandler(handler)
        handler.close()
        return
    SqliteStore(database).close()
    worker = Worker(database, log)
    try:
        async with Client(database) as client:
            yield client, worker
        worker.process.terminate()
        assert worker.process.wait(timeout=60) == 0, log.read_text()
    finally:
        worker.kill()


@pytest.mark.parametrize("how", ["engine", "worker", "killed"])
async def test_a_load_that_fills_the_disk(small_disk, tmp_path, until, how):
    database, log = small_disk.path / "load.db", tmp_path / "log"
    small_disk.fill(ROOM)
    async with served(how, database, log) as (client, worker):
        book = Book(client, tmp_path / "ledger")
        people = asyncio.gather(*(book.ask(who, TIMES) for who in range(ASKERS)))
        await until(lambda: people.done() or book.full or REFUSED in log.read_text())
        await until(book.fill)
        assert not people.done()
        await book.compare()
        if worker is not None and how == "killed":
            worker.kill()
        said, book.full = log.read_text(), 0
        small_disk.free()
        if worker is not None and how == "killed":
            worker.start()
        await until(lambda: people.done() or book.full or REFUSED in log.read_text()[len(said) :])
        await until(book.fill)
        assert not people.done()
        await book.compare()
        small_disk.remount("size=256M")
        await people
        for id in book.started:
            await client.execution(id).result(timeout_s=60)
        await book.compare()
    assert len(book.results) == ASKERS * TIMES * 3
    ran = Counter(book.ran())
    assert len(ran) == ASKERS * TIMES * (3 + 6 + 1)
    if how != "killed":
        assert set(ran.values()) == {1}, "an activity that was done was done again"
    if worker is not None:
        assert "Traceback" not in log.read_text()
    store = SqliteStore(database)
    assert [finding for finding in store.check(quick=False) if not finding[1]] == []
    store.close()
