"""What is done beside the stream: seen when it fails, never in the way, and due when it was due before a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from servers import S3Server, tool

from perdure import Engine, workflow
from perdure.errors import StoreError
from perdure.replication import snapshots as module
from perdure.replication.bucket import Bucket
from perdure.replication.claim import Claim
from perdure.replication.epochs import KEY, Epochs
from perdure.replication.replica import Replica
from perdure.replication.restore import restore
from perdure.replication.snapshots import Snapshots
from perdure.replication.target import Target


@workflow
async def double(n: int) -> int:
    return 2 * n


@pytest.fixture
def url(tmp_path: Path) -> str:
    tool("litestream")
    return f"file://{tmp_path}/bucket"


async def until(there: Callable[[], object]) -> None:
    async with asyncio.timeout(60.0):
        while not there():
            await asyncio.sleep(0.02)


async def test_a_chore_that_fails_is_in_the_status_and_stops_nothing(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = module.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage._replace(free=1))
    async with Engine(
        tmp_path / "shop.db", workflows=[double], replicate=Replica(url, snapshot_every_s=3600)
    ) as engine:
        await until(lambda: engine.replication and "snapshot" in engine.replication.chores)
        assert await (await engine.start(double, 2, id="a", durability="replicated")).result() == 4
        assert engine.replication is not None
        assert "free" in engine.replication.chores["snapshot"]
        assert engine.replication.problem is None, "the stream itself is well"


async def test_a_restart_does_not_make_a_snapshot_due(url: str, tmp_path: Path) -> None:
    kept = Snapshots(Bucket.open(Target.parse(url)))
    for _ in range(2):
        async with Engine(
            tmp_path / "shop.db", workflows=[double], replicate=Replica(url, snapshot_every_s=3600)
        ) as engine:
            await until(lambda engine=engine: engine.replication and engine.replication.snapshot_at)
    assert len(await kept.all()) == 1


async def test_an_engine_without_replica_has_no_status(tmp_path: Path) -> None:
    async with Engine(tmp_path / "shop.db", workflows=[double]) as engine:
        assert engine.replication is None


async def began(epochs: Epochs, ago: timedelta) -> None:
    """Have the truth be the truth for so long."""
    current = await epochs.current()
    assert current is not None
    current = msgspec.structs.replace(current, committed_at=datetime.now(UTC) - ago)
    await epochs.bucket.put(KEY, msgspec.json.encode(current))


@pytest.mark.parametrize("server", ["rclone", "moto"])
async def test_old_epochs_go_once_no_restore_can_want_them(
    request: pytest.FixtureRequest, server: str, bucket_name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tool("litestream")
    caplog.set_level("INFO", "perdure.replication")
    url = request.getfixturevalue(server).url(bucket_name, "shop")
    target = Target.parse(url)
    epochs = Epochs(Bucket.open(target))
    for n, ago in ((1, 72), (2, 25), (3, 0)):  # at the third start the first is what was before the last day
        async with Engine(tmp_path / "shop.db", workflows=[double], replicate=Replica(url)) as engine:
            await (await engine.start(double, n, id=str(n), durability="replicated")).result()
            if n == 3:
                await until(lambda: "deleted the old epoch" in caplog.text)
        if n < 3:
            assert await epochs.all() == list(range(1, n + 1))
            await began(epochs, timedelta(hours=ago))
    assert await epochs.all() == [2, 3]
    assert (await restore(target, tmp_path / "newest.db")).executions == 3
    assert (await restore(target, tmp_path / "before.db", epoch=2)).executions == 2


async def test_no_epoch_is_deleted_without_a_valid_lease_nor_ever_our_own(
    moto: S3Server, bucket_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("litestream")
    replica = Replica(moto.url(bucket_name, "shop"))
    epochs = Epochs(Bucket.open(replica.target))
    async with Claim(replica) as claim, Engine(claim.path, workflows=[double], replicate=claim.replica) as engine:
        await (await engine.start(double, 1, id="a", durability="replicated")).result()
    async with (
        Claim(replica, lease_s=600.0) as claim,
        Engine(claim.path, workflows=[double], replicate=claim.replica) as engine,
    ):
        await (await engine.start(double, 2, id="b", durability="replicated")).result()
        chores = claim.replica.streams[0].chores
        await chores.close()  # from here on only when we say so
        await began(epochs, timedelta(hours=25))
        with monkeypatch.context() as doubtful:
            doubtful.setattr(claim.lease, "valid", lambda: False)
            with pytest.raises(StoreError, match="in doubt"):
                await chores._expire()
            assert await epochs.all() == [1, 2]
        await chores._expire()
        assert await epochs.all() == [2]
        current = await epochs.current()  # of one that replaced us long ago
        await epochs.bucket.put(KEY, msgspec.json.encode(msgspec.structs.replace(current, epoch=3, path="00000003")))
        await chores._expire()
        assert await epochs.all() == [2]
