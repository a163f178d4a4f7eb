"""Records: exactly what Litestream has at a transaction, and nothing that is not in the bucket."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest
from servers import tool
from streaming import Book, streaming, uploaded

from perdure.replication import litestream, records
from perdure.replication.bucket import Bucket
from perdure.replication.control import Positions
from perdure.replication.records import KEPT, Record, RecordFailed, Records, record
from perdure.replication.target import Target
from perdure.store.sqlite.connection import open_connection
from perdure.store.sqlite.moment import Moment, TableDigest

ROUNDS = 4


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    with contextlib.closing(Book(tmp_path / "book.db")) as made:
        made.add(10)
        yield made


def answers(*txids: int, then: Callable[[], None] = lambda: None) -> Callable[[], Positions]:
    """A Litestream that says these transactions one after the other, and the last one for ever."""
    left = list(txids)

    def sync() -> Positions:
        then()
        return Positions(left.pop(0) if len(left) > 1 else left[0], 0)

    return sync


def make(book: Book, sync: Callable[[], Positions], after: int = 0) -> Record | None:
    return record(book.path, sync, database_id="d", epoch=1, after=after, brief=sync)


def test_the_same_answer_twice_makes_a_record(book: Book) -> None:
    made = make(book, answers(7, 8, 9, 9))
    assert made is not None
    assert made.txid == 9
    assert made.tables["line"].rows == 10


def test_nothing_new_makes_no_record(book: Book) -> None:
    assert make(book, answers(7), after=7) is None


def test_while_others_always_commit_they_are_held_up_for_one_question(book: Book) -> None:
    """Each question finds a new transaction, as long as there can be one."""
    said, other = [1], apsw.Connection(str(book.path))

    def sync() -> Positions:
        with contextlib.suppress(apsw.BusyError):
            other.execute("INSERT INTO line VALUES ((SELECT max(n) + 1 FROM line), '')")
            said.append(said[-1] + 1)
        return Positions(said[-1], 0)

    made = make(book, sync)
    assert made is not None
    assert made.txid == said[-1]
    assert made.tables["line"].rows == 10 + len(said) - 1
    other.execute("INSERT INTO line VALUES (1000, '')")  # nobody is held up any more
    other.close()


def test_without_a_short_question_nobody_is_held_up(book: Book) -> None:
    with pytest.raises(RecordFailed, match="all the time"):
        record(book.path, answers(*range(1, 100)), database_id="d", epoch=1)


async def test_a_record_is_exactly_what_litestream_has_while_others_commit(book: Book, tmp_path: Path) -> None:
    """Litestream reads a commit from the log before SQLite shows it to readers: the write lock excludes that."""
    tool("litestream")
    target = Target.parse(f"file://{tmp_path}/bucket")
    stop = threading.Event()

    def write() -> None:
        with contextlib.closing(open_connection(book.path, checkpoints="never")) as other:
            while not stop.wait(0.0003):  # else nobody gets the write lock in between
                other.execute("INSERT INTO line VALUES ((SELECT max(n) + 1 FROM line), '')")

    async with streaming(book, target) as running:
        await uploaded(running, book.path)
        writer = threading.Thread(target=write)
        writer.start()
        try:
            for n in range(ROUNDS):
                made = await asyncio.to_thread(make, book, lambda: running.control.sync(book.path))
                assert made is not None
                await records.arrival(made, lambda: running.control.sync(book.path))
                fetched = tmp_path / f"fetched-{n}.db"
                arguments = ["restore", "-o", str(fetched), "-txid", f"{made.txid:016x}", target.litestream_url()]
                await asyncio.to_thread(litestream.run, arguments, {}, 60.0)
                with Moment(fetched) as moment:
                    assert moment.digests() == made.tables, f"round {n}, transaction {made.txid}"
        finally:
            stop.set()
            writer.join()


def one(epoch: int, txid: int) -> Record:
    tables = {"line": TableDigest(3, "00")}
    return Record(database_id="d", epoch=epoch, txid=txid, at=datetime.now(UTC), took_s=0.1, tables=tables)


async def test_the_newest_record_of_an_epoch_is_found_and_old_ones_go(tmp_path: Path) -> None:
    kept = Records(Bucket.open(Target.parse(f"file://{tmp_path}/bucket")))
    assert await kept.newest(1) is None
    await kept.put(one(1, 500))
    for txid in range(1, KEPT + 3):
        await kept.put(one(2, txid))
    newest = await kept.newest(2)
    assert newest is not None
    assert newest.txid == KEPT + 2
    assert await kept.newest(1) is None, "it was the oldest"
    assert len(await kept.bucket.entries("records")) == KEPT


async def test_a_damaged_record_is_an_error_with_its_name(tmp_path: Path) -> None:
    kept = Records(Bucket.open(Target.parse(f"file://{tmp_path}/bucket")))
    await kept.bucket.put(one(1, 5).key, b"{")
    with pytest.raises(RecordFailed, match="0000000000000005"):
        await kept.newest(1)


async def test_what_does_not_arrive_is_no_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records, "ARRIVAL_S", -1.0)
    with pytest.raises(RecordFailed, match="bucket"):
        await records.arrival(one(1, 5), lambda: Positions(5, 4))
    await records.arrival(one(1, 5), lambda: Positions(9, 5))
