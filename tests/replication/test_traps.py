"""What corrupts a replica, or loses commits without a word, and is not shown elsewhere.

The others: 2 and 8 in `test_control.py`, 3 in `test_claim.py`, 4, 5 and 6 in `test_supervisor.py`, 7 in
`test_gating.py`, 8 in `test_outage.py`, 10 in `test_restore.py`.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import apsw
import pytest
from replicated_shop import ALL, count, stream
from servers import S3Server, tool
from streaming import Book, streaming, uploaded

from perdure import Client, Engine
from perdure.replication import litestream
from perdure.replication import stream as stream_module
from perdure.replication.replica import Replica
from perdure.replication.restore import restore
from perdure.replication.target import Target

Until = Callable[..., Any]
PAGE = "x" * 3000
"""So long that each row has a page of its own."""


@pytest.fixture
def target(rclone: S3Server, bucket_name: str) -> Target:
    tool("litestream")
    return Target.parse(rclone.url(bucket_name, "book"))


def texts(path: Path) -> list[str]:
    with closing(apsw.Connection(str(path))) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [text[:3] for (text,) in connection.execute("SELECT text FROM line ORDER BY n")]


@pytest.mark.parametrize("cured", [True, False])
async def test_one_that_begins_anew_misses_what_was_checkpointed_meanwhile(
    target: Target, tmp_path: Path, until: Until, cured: bool
) -> None:
    """Trap 1. While it was away the log was begun anew twice, each time with fewer pages than it had seen. It finds
    its last page where it was, reads the newest log, and never looks for the one between.

    Without the cure, a TRUNCATE checkpoint before each start, the trap is shown to be there still.
    """
    book = Book(tmp_path / "book.db")
    for text in ("one", "two", "six"):
        book.add(1, text + PAGE)
    async with streaming(book, target) as made:
        for number in range(20):
            book.connection.execute("UPDATE line SET text = ? WHERE n = 2", (f"{number:03}{PAGE}",))
        await uploaded(made, book.path)
        if not cured:
            made.checkpoint = lambda: None
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(litestream, "find", lambda: Path("/bin/false"))
            os.kill(made.pid or 0, signal.SIGKILL)
            await until(lambda: made.pid is None)
            with closing(apsw.Connection(str(book.path))) as other:  # as an application with the usual settings would
                for n, text in ((0, "new"), (1, "old")):
                    other.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
                    other.execute("UPDATE line SET text = ? WHERE n = ?", (text + PAGE, n))
        await until(lambda: made.pid is not None and made._ready.is_set(), 60.0)
        await uploaded(made, book.path)
        assert await made.stop()
    path = tmp_path / "restored.db"
    litestream.run(["restore", "-o", str(path), target.litestream_url()], target.credentials(), 60.0)
    assert texts(book.path) == ["new", "old", "019"]
    assert (texts(path) == texts(book.path)) is cured
    book.close()


async def test_no_connection_of_ours_checkpoints_by_itself(target: Target, database: Path) -> None:
    """Trap 1: then the log cannot begin anew without our knowing."""
    async with Engine(database, ALL, replicate=Replica(target.url)) as engine, Client(database) as client:
        stores = [engine._runner_store, engine.store, client.store]
        for store in stores:
            assert store is not None
            for connection in (store.writer.connection, store.reader.connection):
                assert connection.pragma("wal_autocheckpoint") == 0
        assert engine._runner_store is not None
        assert engine._runner_store.writer.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, -1) == 1


async def test_two_lives_of_one_path_do_not_meet(target: Target, database: Path, tmp_path: Path) -> None:
    """Trap 3: each time that a file gets a runner it is streamed to a path of its own."""
    copy = tmp_path / "copy.db"
    await stream(database, target, "a")
    await restore(target, copy)
    first, second = Replica(target.url), Replica(target.url)
    async with Engine(database, ALL, replicate=first, durability="replicated") as engine:
        await (await engine.start(count, 2, id="b")).result(60)
        async with Engine(copy, ALL, replicate=second, durability="replicated") as other:
            await (await other.start(count, 2, id="c")).result(60)
            await engine.start(count, 2, id="late", durability="local")
    epochs = [found.streams[0].epoch for found in (first, second)]
    assert epochs == [2, 3]
    for epoch, ids in ((2, {"a", "b", "late"}), (3, {"a", "c"})):
        done = await restore(target, tmp_path / f"{epoch}.db", epoch=epoch)
        async with Client(done.path) as client:
            assert {info.id for info in await client.list()} == ids
    assert (await restore(target, tmp_path / "newest.db")).epoch == 3


async def test_commits_are_taken_up_because_we_ask(
    target: Target, database: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself Litestream looks seldom: each look makes a file to upload."""
    monkeypatch.setattr(litestream, "LOOKS_EVERY_S", 3600.0)
    replica = Replica(target.url)
    async with Engine(database, ALL, replicate=replica) as engine:
        found = replica.streams[0]
        await until(lambda: found._announced, 60.0)
        for _ in range(3):
            await (await engine.start(count, 2)).result(10)
            await until(lambda: found.lag().commits == 0, 60.0)


async def test_what_nobody_asks_for_is_taken_up_as_well(tmp_path: Path, until: Until) -> None:
    tool("litestream")
    target, book = Target.parse(f"file://{tmp_path}/replica"), Book(tmp_path / "book.db")
    book.add(1)
    async with streaming(book, target) as made:
        await uploaded(made, book.path)
        before = set((tmp_path / "replica").rglob("*.ltx"))
        book.add(1)
        await until(lambda: set((tmp_path / "replica").rglob("*.ltx")) - before, 60.0)
    book.close()


async def test_a_long_read_stalls_nobody_and_is_told(
    target: Target, database: Path, until: Until, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Trap 9: the log cannot be emptied while somebody reads."""
    monkeypatch.setattr(stream_module, "LOOK_EVERY_S", 0.05)
    replica = Replica(target.url, log_limit_bytes=100_000)
    async with Engine(database, ALL, replicate=replica) as engine:
        found = replica.streams[0]
        await (await engine.start(count, 2)).result(10)
        await until(lambda: found.lag().commits == 0 and found._announced, 60.0)
        with closing(apsw.Connection(str(database))) as reader:
            reader.execute("BEGIN")
            reader.execute("SELECT count(*) FROM perdure_event").fetchone()
            while found.site.store.log_bytes() <= replica.log_limit_bytes:
                await (await engine.start(count, 10)).result(10)
            await until(lambda: "its log has grown to" in caplog.text)
            assert found.supervisor is not None
            os.kill(found.supervisor.pid or 0, signal.SIGKILL)
            await until(lambda: "could not be emptied" in (found.supervisor.problem or ""))  # type: ignore[union-attr] # see above
            for _ in range(10):
                await (await engine.start(count, 10)).result(10)
            assert found.supervisor.pid is None
        await until(lambda: found.lag().commits == 0, 60.0)
        await until(lambda: found.site.store.log_bytes() <= replica.log_limit_bytes)
