"""Snapshots: whole copies beside the stream, and restores from them."""

from __future__ import annotations

import asyncio
import os
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import apsw
import pytest

from perdure import Engine, workflow
from perdure.replication import snapshots as module
from perdure.replication.bucket import Bucket
from perdure.replication.restore import InTheWay, NothingToRestore, RestoreFailed, restore
from perdure.replication.snapshots import NoSuchSnapshot, SnapshotFailed, Snapshots
from perdure.replication.target import Target
from perdure.store.sqlite.moment import Moment


@workflow
async def double(n: int) -> int:
    return 2 * n


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"

    async def fill() -> None:
        async with Engine(path, workflows=[double]) as engine:
            for n in range(3):
                await (await engine.start(double, n, id=str(n))).result()

    asyncio.run(fill())
    return path


@pytest.fixture
def target(tmp_path: Path) -> Target:
    return Target.parse(f"file://{tmp_path}/bucket")


@pytest.fixture
def kept(target: Target) -> Snapshots:
    return Snapshots(Bucket.open(target))


async def put(kept: Snapshots, *names: str) -> None:
    for name in names:
        await kept.bucket.put(f"snapshots/{name}.db.zst", b"x")


async def test_a_snapshot_restores_to_the_same_content(shop: Path, kept: Snapshots, target: Target) -> None:
    made = await kept.take(shop, 7)
    assert await kept.all() == [made]
    assert [path.name for path in shop.parent.iterdir() if "snapshot" in path.name] == [], "nothing is left behind"
    steps: list[str] = []
    to = shop.with_name("restored.db")
    done = await restore(target, to, snapshot="latest", progress=steps.append)
    assert (done.standing, done.epoch, done.snapshot_at, done.executions) == ("snapshot", 7, made.at, 3)
    assert made.at.strftime("%Y-%m-%dT%H:%M:%SZ") in steps[0]
    with Moment(to) as restored, Moment(shop) as original:
        assert restored.digests() == original.digests()
    with pytest.raises(InTheWay):
        await restore(target, to, snapshot="latest")


@pytest.mark.parametrize("server", ["rclone", "moto"])
async def test_a_large_one_goes_up_in_parts_and_comes_back(
    request: pytest.FixtureRequest, server: str, bucket_name: str, shop: Path
) -> None:
    with closing(apsw.Connection(str(shop))) as connection:
        connection.execute("CREATE TABLE noise AS SELECT randomblob(12000000) AS bytes")
    target = Target.parse(request.getfixturevalue(server).url(bucket_name, "shop"))
    made = await Snapshots(Bucket.open(target)).take(shop, 7)
    assert made.size_bytes > 12_000_000
    done = await restore(target, shop.with_name("restored.db"), snapshot="latest")
    with Moment(done.path) as restored, Moment(shop) as original:
        assert restored.digests() == original.digests()


async def test_a_database_in_use_is_copied_with_what_is_committed(shop: Path, kept: Snapshots, target: Target) -> None:
    async with Engine(shop, workflows=[double]) as engine:
        await (await engine.start(double, 4, id="4")).result()
        await kept.take(shop, 1)
        await (await engine.start(double, 5, id="5")).result()
    done = await restore(target, shop.with_name("restored.db"), snapshot="latest")
    assert done.executions == 4


async def test_it_is_the_last_resort_when_no_epoch_can_be_restored(shop: Path, kept: Snapshots, target: Target) -> None:
    """Also when there are no epochs left at all: a new, empty database would be taken for the truth."""
    made = await kept.take(shop, 1)
    done = await restore(target, shop.with_name("restored.db"))
    assert (done.standing, done.snapshot_at) == ("snapshot", made.at)
    assert len(done.passed_over) == 1
    with pytest.raises(NothingToRestore):  # who asks for something certain does not get something else
        await restore(target, shop.with_name("other.db"), epoch=3)


async def test_a_damaged_snapshot_is_refused(shop: Path, kept: Snapshots, target: Target) -> None:
    made = await kept.take(shop, 1)
    key = f"snapshots/{made.name}"
    found = await kept.bucket.get(key)
    assert found is not None
    to = shop.with_name("restored.db")
    turned = bytearray(found.data)
    turned[len(turned) // 2] ^= 1
    for data in (found.data[:-20], bytes(turned), b"", b"no zstd"):
        await kept.bucket.put(key, data)
        with pytest.raises((SnapshotFailed, RestoreFailed)):
            await restore(target, to, snapshot=made.name)
        assert not to.exists()


async def test_the_newest_are_kept(kept: Snapshots) -> None:
    await put(kept, *(f"2026-01-0{day}T00-00-00Z-00000001" for day in range(1, 8)), "notes")
    assert await kept.prune(keep=3) == 4
    assert [one.at.day for one in await kept.all()] == [5, 6, 7]
    assert await kept.prune(keep=3, days=1) == 2, "old ones go, and never the newest"
    assert [one.name for one in await kept.all()] == ["2026-01-07T00-00-00Z-00000001.db.zst"]
    assert await kept.bucket.get("snapshots/notes.db.zst") is not None, "what is not ours stays"


async def test_a_snapshot_is_found_by_name(kept: Snapshots) -> None:
    with pytest.raises(NoSuchSnapshot):
        await kept.find()
    await put(kept, "2026-01-02T03-04-05Z-00000009", "2026-01-02T03-04-05Z-00000010")
    assert (await kept.find()).epoch == 10
    found = await kept.find("2026-01-02T03-04-05Z-00000009.db.zst")
    assert (found.epoch, found.at) == (9, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC))
    with pytest.raises(NoSuchSnapshot) as refused:
        await kept.find("other")
    assert "00000010" in refused.value.hint


async def test_no_snapshot_is_begun_without_room(shop: Path, kept: Snapshots, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = module.shutil.disk_usage(shop.parent)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=os.stat(shop).st_size))
    with pytest.raises(SnapshotFailed, match="free"):
        await kept.take(shop, 1)
