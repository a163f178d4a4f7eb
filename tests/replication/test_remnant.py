"""A client that is killed in the middle of its commit: what Litestream read of it spoils nothing."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest
from servers import tool

from perdure import Client, Engine, workflow
from perdure.replication.replica import Replica
from perdure.replication.restore import restore
from perdure.replication.target import Target
from perdure.store.sqlite import SqliteStore, remnant
from perdure.store.sqlite.connection import open_connection
from perdure.store.sqlite.moment import Moment

HALF_CLIENT = Path(__file__).with_name("half_client.py")


@workflow
async def hello(name: str) -> str:
    return f"hello {name}"


@pytest.fixture
def target(tmp_path: Path) -> Target:
    tool("litestream")
    return Target.parse((tmp_path / "replica").as_uri())


def uploads(target: Target) -> int:
    return len(list(Path(target.prefix).glob("*/ltx/0/*.ltx")))


@asynccontextmanager
async def killed_client(database: Path) -> AsyncIterator[None]:
    """Have a client stand still in a commit during the block, and be killed in it."""
    client = await asyncio.create_subprocess_exec(
        sys.executable, str(HALF_CLIENT), str(database), stdout=asyncio.subprocess.PIPE
    )
    try:
        assert client.stdout is not None
        assert await asyncio.wait_for(client.stdout.readline(), 30) == b"half\n"
        yield
    finally:
        client.kill()
        await client.wait()


async def settled(target: Target) -> None:
    """Wait until nothing has been uploaded for a while: Litestream has read all that there is."""
    before, since = -1, 0
    while since < 8:
        await asyncio.sleep(0.25)
        before, since = (uploads(target), since + 1) if uploads(target) == before else (uploads(target), 0)


@pytest.mark.parametrize("then", ["a caller who waits for the replica", "a client", "nothing"])
async def test_the_replica_is_right_after_a_client_was_killed_in_its_commit(
    database: Path, target: Target, tmp_path: Path, then: str, monkeypatch: pytest.MonkeyPatch, until
) -> None:
    if then != "nothing":  # else the runner sees it before anybody writes over it
        monkeypatch.setattr(SqliteStore, "left_in_log", lambda self: None)
    async with Engine(database, workflows=[hello], replicate=Replica(target.url)) as engine:
        await (await engine.start(hello, "a", id="a", durability="replicated")).result()
        await settled(target)
        async with killed_client(database):
            await settled(target)
        if then == "a caller who waits for the replica":
            for n in range(3):
                await engine.start(hello, "b", id=f"b-{n}", durability="replicated")
        elif then == "a client":
            async with Client(database) as client:
                await (await client.start(hello, "c", id="c")).result()
        await until(lambda: engine.replication.restarts and engine.replication.problem is None)
        with Moment(database) as moment:
            sure = moment.digests()["perdure_execution"].rows
    restored = await restore(target, tmp_path / "restored.db")
    assert restored.executions == sure
    assert tables(tmp_path / "restored.db") == tables(database)


def tables(path: Path) -> dict[str, object]:
    with Moment(path) as moment:
        return moment.digests()


def test_a_commit_that_is_true_is_no_remnant(database: Path):
    connection = open_connection(database, checkpoints="never")
    connection.pragma("journal_mode", "wal")
    other = open_connection(database, checkpoints="never")
    for n in range(50):
        for writer in (connection, other):
            remnant.begin(writer, database)
            writer.execute(f"CREATE TABLE t{n}_{id(writer)} (a)")
            writer.execute("COMMIT")
            assert remnant.lies(connection, database) is None
        if n == 25:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        if n == 35:
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_RESTART)
    assert not remnant.take_note(database)
    connection.close()
    other.close()
