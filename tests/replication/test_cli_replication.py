"""`perdure worker --replicate`, `perdure worker --db s3://…`, `perdure restore`: what they print and how they end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from replica_machines import SHOP, Machine, Machines, as_json, cli, machines
from replicated_shop import count, stream
from servers import SECRET, S3Server, tool

from perdure import Client
from perdure.replication.target import Target


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Machines]:
    with machines(tmp_path) as made:
        yield made


@pytest.fixture
def target(tmp_path: Path) -> Target:
    tool("litestream")
    return Target.parse((tmp_path / "replica" / "shop").as_uri())


async def running(machine: Machine) -> Machine:
    await machine.until_it_says("runner with epoch")
    return machine


async def test_a_worker_streams_a_local_file_and_it_comes_back(
    rclone: S3Server, bucket_name: str, start: Machines, tmp_path: Path
) -> None:
    tool("litestream")
    url = rclone.url(bucket_name, "shop")
    worker = await running(start("--db", tmp_path / "shop.db", "--replicate", url, folder="."))
    async with Client(tmp_path / "shop.db", durability="replicated") as client:
        assert await (await client.start(count, 2, id="a")).result(30) == 2
    if sys.platform == "linux":
        for pid in (worker.process.pid, worker.litestream):
            assert SECRET not in Path(f"/proc/{pid}/cmdline").read_text()
    worker.send(signal.SIGTERM)
    assert await worker.until_it_ends() == 0
    assert "streaming to s3://" in worker.said
    assert SECRET not in worker.said
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    code, out, err = await asyncio.to_thread(cli, folder, "restore", url)
    assert (code, out, (folder / "shop.db").exists()) == (0, "", True), err  # a sentence is for terminals only
    assert err.splitlines() == ["fetching epoch 1 (current)", "checking its content"]
    code, out, _ = await asyncio.to_thread(cli, folder, "restore", url, "-o", "two.db", "--json")
    found = as_json(out)
    assert (code, found["path"], found["epoch"], found["executions"]) == (0, "two.db", 1, 1)
    assert found["passed_over"] == []


async def test_a_worker_without_a_local_file(moto: S3Server, bucket_name: str, start: Machines) -> None:
    tool("litestream")
    url = moto.url(bucket_name, "shop")
    worker = await running(start("--db", url))
    async with Client(worker.path, durability="replicated") as client:
        assert await (await client.start(count, 2, id="a")).result(30) == 2
    worker.send(signal.SIGTERM)
    assert await worker.until_it_ends() == 0
    assert "there is nothing in the bucket yet: a new database" in worker.said
    again = await running(start("--db", url))
    async with Client(again.path) as client:
        assert await client.execution("a").result(30) == 2


async def test_a_durability_for_all(target: Target, start: Machines, tmp_path: Path) -> None:
    worker = await running(
        start("--db", tmp_path / "shop.db", "--replicate", target.url, "--durability", "replicated", folder=".")
    )
    async with Client(tmp_path / "shop.db") as client:
        assert await (await client.start(count, 2, id="a")).result(30) == 2
    worker.process.kill()
    await worker.until_it_ends()
    code, out, _ = await asyncio.to_thread(cli, tmp_path, "restore", target.url, "-o", "new.db", "--json")
    assert (code, as_json(out)["executions"]) == (0, 1)


async def test_litestream_being_killed_is_told_and_mended(target: Target, start: Machines, tmp_path: Path) -> None:
    worker = await running(start("--db", tmp_path / "shop.db", "--replicate", target.url, folder="."))
    async with Client(tmp_path / "shop.db", durability="replicated") as client:
        await (await client.start(count, 2, id="a")).result(30)
        os.kill(worker.litestream, signal.SIGKILL)
        await worker.until_it_says("replication is interrupted, local work goes on: litestream ended with -9")
        await (await client.start(count, 2, id="b")).result(30)
    worker.send(signal.SIGTERM)
    assert await worker.until_it_ends() == 0
    code, out, _ = await asyncio.to_thread(cli, tmp_path, "restore", target.url, "-o", "new.db", "--json")
    assert (code, as_json(out)["executions"]) == (0, 2)


def test_exit_codes_and_hints(target: Target, tmp_path: Path) -> None:
    code, _, err = cli(tmp_path, "restore", target.url)
    assert (code, "holds no database" in err, "hint: " in err) == (3, True, True)
    asyncio.run(stream(tmp_path / "there.db", target, "a"))
    code, _, err = cli(tmp_path, "restore", target.url, "-o", "there.db")
    assert (code, "is there already" in err, "-o" in err) == (4, True, True)
    code, _, err = cli(tmp_path, "restore", target.url, "--at", "2020-01-01T00:00:00Z")
    assert (code, "holds no database of 2020" in err) == (3, True)
    for path in Path(target.child(1).prefix).rglob("*.ltx"):
        path.write_text("spoiled")
    code, out, err = cli(tmp_path, "restore", target.url, "--json")
    assert (code, out, "no copy could be restored" in err, "epoch 1 (current)" in err) == (1, "", True, True)
    assert not (tmp_path / "shop.db").exists()


def test_what_is_passed_over_is_told(target: Target, tmp_path: Path) -> None:
    asyncio.run(stream(tmp_path / "there.db", target, "a"))
    asyncio.run(stream(tmp_path / "there.db", target, "b"))
    for path in Path(target.child(2).prefix).rglob("*.ltx"):
        path.unlink()
    code, out, err = cli(tmp_path, "restore", target.url, "--json")
    assert (code, as_json(out)["epoch"], as_json(out)["standing"]) == (0, 1, "earlier")
    assert "epoch 2 (current): " in err
    assert "it may miss" in err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("restore", "s3://"), "bucket"),
        (("restore", "s3://b/x", "--at", "2020-01-01T00:00:00Z", "--epoch", "1"), "exclude each other"),
        (("restore", f"s3://key:{SECRET}@b/x"), "keys do not belong"),
        (("worker", str(SHOP), "--replicate", "http://b/x"), "s3://"),
        (("worker", str(SHOP), "--db", "s3://b/x", "--replicate", "s3://b/y"), "--replicate"),
        (("worker", str(SHOP), "--durability", "somewhat"), "local or replicated"),
        (("worker", str(SHOP), "--durability", "replicated"), "needs a replica"),
        (("worker", str(SHOP), "--replicate", "s3://bucket/x", "--synchronous", "normal"), "full"),
    ],
)
def test_what_cannot_be_meant_is_refused(tmp_path: Path, arguments: tuple[str, ...], says: str) -> None:
    code, out, err = cli(tmp_path, *arguments)
    assert (code, out, says in err) == (2, "", True), err
    assert SECRET not in err
    assert err.count("hint: ") <= 1
    assert list(tmp_path.iterdir()) == []


def test_a_store_without_conditional_writes_is_refused(rclone: S3Server, bucket_name: str, tmp_path: Path) -> None:
    code, _, err = cli(tmp_path, "worker", SHOP, "--db", rclone.url(bucket_name, "shop"))
    assert (code, "ignores conditional writes" in err, "without a lease" in err) == (1, True, True), err


async def test_the_exit_code_is_not_lost_at_the_very_end(tmp_path: Path) -> None:
    """obstore's threads met an interpreter that was being taken down, one time in fifteen on a busy machine."""
    url = (tmp_path / "replica").as_uri()
    found = await asyncio.gather(*(asyncio.to_thread(cli, tmp_path, "restore", url) for _ in range(8)))
    assert [code for code, _, _ in found] == [3] * 8
