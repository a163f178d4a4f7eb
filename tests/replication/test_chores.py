"""What is done beside the stream: seen when it fails, never in the way, and due when it was due before a restart."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from servers import tool

from perdure import Engine, workflow
from perdure.replication import snapshots as module
from perdure.replication.bucket import Bucket
from perdure.replication.replica import Replica
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
