"""A database out of the bucket: its newest state, an earlier one, the next best; whole and checked, or not at all."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from replicated_shop import ALL, count, stream
from servers import S3Server, tool

from perdure import Client, Engine
from perdure.replication import restore as module
from perdure.replication.bucket import Bucket
from perdure.replication.epochs import Epochs
from perdure.replication.replica import Replica
from perdure.replication.restore import InTheWay, NothingToRestore, RestoreFailed, restore
from perdure.replication.target import Target

Until = Callable[..., Any]


@pytest.fixture
def target(tmp_path: Path) -> Target:
    tool("litestream")
    return Target.parse((tmp_path / "replica").as_uri())


async def ids(path: Path) -> set[str]:
    async with Client(path) as client:
        return {info.id for info in await client.list()}


def files(target: Target, epoch: int) -> list[Path]:
    return sorted(Path(target.child(epoch).prefix).rglob("*.ltx"))


async def test_the_newest_state_comes_back(rclone: S3Server, bucket_name: str, database: Path, tmp_path: Path) -> None:
    tool("litestream")
    target = Target.parse(rclone.url(bucket_name, "shop"))
    await stream(database, target, "a", "b")
    await stream(database, target, "c")
    steps: list[str] = []
    done = await restore(target, tmp_path / "elsewhere" / "new.db", progress=steps.append)
    assert (done.epoch, done.standing, done.executions, done.passed_over) == (2, "current", 3, [])
    assert done.size_bytes == done.path.stat().st_size
    assert done.newest_at is not None
    assert datetime.now(UTC) - done.newest_at < timedelta(minutes=5)
    assert steps == ["fetching epoch 2 (current)", "checking its content"]
    assert await ids(done.path) == {"a", "b", "c"}
    assert sorted(path.name for path in done.path.parent.iterdir()) == ["new.db"]
    async with Engine(done.path, ALL) as engine:  # and it runs
        assert await (await engine.start(count, 3)).result(30) == 3


async def test_one_epoch_comes_back(target: Target, database: Path, tmp_path: Path) -> None:
    await stream(database, target, "a")
    await stream(database, target, "b")
    done = await restore(target, tmp_path / "old.db", epoch=1)
    assert (done.epoch, done.standing, await ids(done.path)) == (1, "earlier", {"a"})
    with pytest.raises(NothingToRestore, match="epoch 7"):
        await restore(target, tmp_path / "new.db", epoch=7)


async def test_an_instant_comes_back(
    rclone: S3Server, bucket_name: str, database: Path, tmp_path: Path, until: Until
) -> None:
    tool("litestream")
    target = Target.parse(rclone.url(bucket_name, "shop"))
    before = datetime.now(UTC)
    moments: list[tuple[datetime, set[str]]] = []
    started: set[str] = set()
    for run in range(2):
        async with Engine(database, ALL, replicate=Replica(target.url), durability="replicated") as engine:
            for number in range(3):
                id = f"{run}-{number}"
                await (await engine.start(count, 2, id=id)).result(60)
                started.add(id)
                moments.append((at := datetime.now(UTC), set(started)))
                await until(lambda at=at: datetime.now(UTC) > at + timedelta(milliseconds=2))
    for number, (at, wanted) in enumerate(moments):
        done = await restore(target, tmp_path / f"{number}.db", at=at)
        assert await ids(done.path) == wanted, (number, at)
        assert done.epoch == 1 + number // 3
    with pytest.raises(NothingToRestore, match=before.isoformat().partition(".")[0]):
        await restore(target, tmp_path / "before.db", at=before)


async def test_nothing_is_written_over(target: Target, database: Path, tmp_path: Path) -> None:
    await stream(database, target, "a")
    there = tmp_path / "there.db"
    there.write_text("mine")
    with pytest.raises(InTheWay) as raised:
        await restore(target, there)
    assert "-o" in raised.value.hint
    assert there.read_text() == "mine"
    log = tmp_path / "log.db-wal"
    log.write_text("mine")
    with pytest.raises(InTheWay, match=r"log\.db-wal"):
        await restore(target, tmp_path / "log.db")


async def test_what_appears_meanwhile_is_not_written_over_either(
    target: Target, database: Path, tmp_path: Path
) -> None:
    await stream(database, target, "a")
    path = tmp_path / "new.db"
    with pytest.raises(InTheWay, match="meanwhile"):
        await restore(target, path, progress=lambda step: path.write_text("mine"))
    assert path.read_text() == "mine"


async def test_nothing_there_leaves_nothing(target: Target, tmp_path: Path) -> None:
    with pytest.raises(NothingToRestore) as raised:
        await restore(target, tmp_path / "folder" / "new.db")
    assert "--replicate" in raised.value.hint
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize("harm", ["cut", "spoiled", "gone"])
async def test_a_damaged_epoch_is_passed_over_for_the_next_best(
    target: Target, database: Path, tmp_path: Path, harm: str
) -> None:
    await stream(database, target, "a")
    await stream(database, target, "b")
    found = files(target, 2)
    assert found
    for path in found:
        data = path.read_bytes()
        if harm == "cut":
            path.write_bytes(data[: len(data) // 2])
        elif harm == "spoiled":
            path.write_bytes(data[: len(data) // 2] + bytes(64) + data[len(data) // 2 + 64 :])
        else:
            path.unlink()
    done = await restore(target, tmp_path / "new.db")
    assert (done.epoch, done.standing, await ids(done.path)) == (1, "earlier", {"a"})
    (why,) = done.passed_over
    assert why.startswith("epoch 2 (current): litestream restore failed: ")


@pytest.mark.parametrize("harmed", ["the last", "one in the middle"])
async def test_of_a_damaged_epoch_comes_back_what_can_be_had(
    target: Target, database: Path, tmp_path: Path, harmed: str
) -> None:
    async with Engine(database, ALL, replicate=Replica(target.url), durability="replicated") as engine:
        for id in "abcdef":  # an upload at least for each
            await (await engine.start(count, 1, id=id)).result()
    level0 = [path for path in files(target, 1) if path.parent.name == "0"]
    assert len(level0) >= 6
    spoilt = level0[-1 if harmed == "the last" else len(level0) // 2]
    spoilt.write_bytes(b"nothing of the kind")
    for path in files(target, 1):
        if path.parent.name != "0" and path.name.split("-")[1] >= spoilt.name.split("-")[1]:
            path.unlink()  # what was made of several in the meantime
    done = await restore(target, tmp_path / "new.db")
    found = await ids(done.path)
    assert (done.epoch, "a" in found, len(found) >= 2) == (1, True, True)
    assert found == set("abcdef"[: len(found)])  # what is there is all that was before what is missing
    (why,) = done.passed_over
    assert why.startswith("epoch 1 (current): litestream restore failed: ")
    assert "what came after its transaction" in why


async def test_when_nothing_can_be_restored_it_says_why_for_each(
    target: Target, database: Path, tmp_path: Path
) -> None:
    await stream(database, target, "a")
    await stream(database, target, "b")
    for path in [*files(target, 1), *files(target, 2)]:
        path.write_bytes(b"nothing of the kind")
    with pytest.raises(RestoreFailed) as raised:
        await restore(target, tmp_path / "new.db")
    assert "epoch 2 (current)" in raised.value.hint
    assert "epoch 1 (earlier)" in raised.value.hint
    assert not list(tmp_path.glob("*new.db*")) + list(tmp_path.glob(".new.db*"))


async def test_content_that_contradicts_itself_is_not_put_in_place(
    target: Target, database: Path, tmp_path: Path
) -> None:
    """Trap 10: SQLite's own check finds nothing wrong with a history that has a gap."""
    await stream(database, target, "a")
    async with Engine(database, ALL):  # so that the log is moved into the file
        pass
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("DROP TRIGGER IF EXISTS perdure_event_kept")
        connection.execute("DELETE FROM perdure_event WHERE seq = 2")
        connection.commit()
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    await stream(database, target)
    done = await restore(target, tmp_path / "new.db")
    assert (done.epoch, await ids(done.path)) == (1, {"a"})
    assert "damaged" in done.passed_over[0]


async def test_an_epoch_that_never_became_the_truth_is_only_taken_when_there_is_no_other(
    target: Target, database: Path, tmp_path: Path
) -> None:
    await stream(database, target, "a")
    shutil.copytree(target.child(1).prefix, target.child(2).prefix)
    done = await restore(target, tmp_path / "first.db")
    assert (done.epoch, done.standing) == (1, "current")
    for path in files(target, 1):
        path.unlink()
    done = await restore(target, tmp_path / "second.db")
    assert (done.epoch, done.standing) == (2, "unfinished")
    assert len(done.passed_over) == 1


RESTORING = """
import asyncio, sys, time
from pathlib import Path
from perdure.replication import restore as module
from perdure.replication.target import Target

fetch, examine = module._fetch, module._examine

def stop_after(call):
    def stopping(*arguments):
        call(*arguments)
        print("there", flush=True)
        time.sleep(600)
    return stopping

setattr(module, sys.argv[3], stop_after(getattr(module, sys.argv[3])))
asyncio.run(module.restore(Target.parse(sys.argv[1]), Path(sys.argv[2])))
"""


@pytest.mark.parametrize("where", ["_fetch", "_examine"])
async def test_killed_in_the_middle_it_leaves_nothing_in_the_way(
    target: Target, database: Path, tmp_path: Path, spawn: Callable[..., Any], where: str
) -> None:
    await stream(database, target, "a")
    folder = tmp_path / "folder"
    path = folder / "new.db"
    process = spawn(RESTORING, target.url, path, where)
    assert await asyncio.to_thread(process.stdout.readline) == "there\n", process.stderr.read()
    assert not path.exists()
    await restore(target, path)  # another one, that is faster
    path.unlink()
    assert len(list(folder.glob(".new.db-restore-*"))) == 1  # it is at work
    process.kill()
    process.wait()
    assert not path.exists()
    await restore(target, path)
    assert await ids(path) == {"a"}
    assert sorted(found.name for found in folder.iterdir()) == ["new.db"]


async def test_the_end_of_a_short_run_is_found_again(target: Target, database: Path, tmp_path: Path) -> None:
    """It may end before Litestream has looked at the file for the first time."""
    replica = Replica(target.url)
    async with Engine(database, ALL, replicate=replica) as engine:
        await engine.start(count, 1, id="a")
    assert replica.streams[0].complete
    assert (await Epochs(Bucket.open(target)).current()).epoch == 1  # type: ignore[union-attr]
    assert await ids((await restore(target, tmp_path / "new.db")).path) == {"a"}


def test_a_restore_that_takes_too_long_is_given_up(
    target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from servers import black_hole

    monkeypatch.setattr(module, "RESTORE_S", 0.5)
    with black_hole() as endpoint:
        away = Target.parse(f"s3://nowhere/x?endpoint={endpoint}&region=us-east-1")
        with pytest.raises(module.LitestreamFailed, match=r"more than 0\.5 s"):
            module._fetch(away, tmp_path / "new.db", None)
