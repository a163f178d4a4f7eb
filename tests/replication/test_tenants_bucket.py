"""Many tenants in one bucket: one Litestream, each with a lease and epochs of its own, and nothing asked of the bucket
for those that are closed."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from counting import Counting, counting_server
from replicated_shop import ALL, count, go, wait
from servers import S3Server, tool

from perdure import Client, Engine
from perdure.replication.bucket import Bucket
from perdure.replication.epochs import Epochs
from perdure.replication.lease_object import KEY, LeaseRefused, read_record
from perdure.replication.litestream import Settings
from perdure.replication.replica import Replica
from perdure.replication.restore import restore
from perdure.replication.target import Target
from perdure.tenants import Tenants
from perdure.tenants.place import read_any, write_note

Until = Callable[..., Any]


@pytest.fixture
def counting(moto: S3Server) -> Iterator[Counting]:
    with counting_server(moto.endpoint) as made:
        yield made


@pytest.fixture
def url(moto: S3Server, bucket_name: str) -> str:
    tool("litestream")
    return moto.url(bucket_name, "fleet")


def machine(folder: Path, url: str, **options: Any) -> Tenants:
    """Be a machine with its own folder."""
    return Tenants(folder, ALL, replicate=Replica(url), **({"idle_s": 0.2, "lease_s": 5.0} | options))


async def all_closed(tenants: Tenants, until: Until) -> None:
    await until(lambda: not tenants.report().open, 60)


async def use(tenants: Tenants, name: str, *ids: str, **options: Any) -> list[str]:
    """Run an execution for each id; give the ids of all that the tenant has."""
    async with tenants.open(name) as engine:
        for id in ids:
            await (await engine.start(count, 2, id=id, **options)).result(60)
        return sorted(info.id for info in await engine.list())


def litestreams(parent: int) -> list[int]:
    """The process ids of a process's Litestreams."""
    children = Path(f"/proc/{parent}/task").glob("*/children")
    pids = [int(pid) for file in children for pid in file.read_text().split()]
    return [pid for pid in pids if b"litestream" in Path(f"/proc/{pid}/cmdline").read_bytes()]


async def test_one_litestream_streams_all_and_each_has_its_own_place(url: str, until: Until, tmp_path: Path) -> None:
    async with machine(tmp_path / "a", url, idle_s=30) as tenants:
        for name in ("acme", "beta", "gamma"):
            assert await use(tenants, name, "x", durability="replicated") == ["x"]
        assert len(tenants.report().open) == 3
        assert litestreams(os.getpid()) == [tenants.report().replication.pid]  # type: ignore[union-attr]
    for name in ("acme", "beta", "gamma"):
        target = Target.parse(url).child(name)
        current, lease = await Epochs(Bucket.open(target)).current(), await Bucket.open(target).get(KEY)
        assert current is not None
        assert current.epoch == 1
        assert lease is not None
        assert read_record(lease.data, name).released
        assert (await restore(target, tmp_path / f"{name}.db")).executions == 1
    assert litestreams(os.getpid()) == []


async def test_a_closed_tenant_costs_no_requests(
    moto: S3Server, counting: Counting, bucket_name: str, until: Until, tmp_path: Path
) -> None:
    url = moto.url(bucket_name, "fleet").replace(moto.endpoint, counting.endpoint)
    async with machine(tmp_path / "a", url) as tenants:
        for name in ("acme", "beta"):
            await use(tenants, name, "x")
        await all_closed(tenants, until)
        assert tenants.doors.fleet is not None
        assert tenants.doors.fleet.litestream.supervisor.control.databases() == {}  # it may just be ending a listing
        before, looks = counting.counts.copy(), tenants.watch.looks
        await until(lambda: tenants.watch.looks > looks + 15)
        assert (counting.counts - before).total() <= 1
        puts = counting.counts["PUT"]
        await use(tenants, "acme", "y")
        await all_closed(tenants, until)
        assert counting.counts["PUT"] - puts < 20


async def test_another_machine_goes_on_with_the_newest_state(
    url: str, until: Until, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And the first again after that, though it has a file: an old one."""
    caplog.set_level(logging.INFO, "perdure")
    async with machine(tmp_path / "a", url) as tenants:
        assert await use(tenants, "acme", "1") == ["1"]
    async with machine(tmp_path / "b", url) as tenants:
        await until((tmp_path / "b" / "acme.db").exists, 60)  # fetched without anybody asking for it
        assert await use(tenants, "acme", "2") == ["1", "2"]
        await all_closed(tenants, until)
        assert await use(tenants, "acme", "3") == ["1", "2", "3"]
    async with machine(tmp_path / "a", url) as tenants:
        assert await use(tenants, "acme", "4") == ["1", "2", "3", "4"]
    assert not [*(tmp_path / "a").glob(".*-left-*")]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_was_asked_for_in_an_old_copy_is_done(
    url: str, until: Until, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with machine(tmp_path / "a", url) as tenants:
        async with tenants.open("acme") as engine:
            await engine.start(wait, "acme", id="w")
            await engine.start(wait, "acme", id="p")
            await engine.execution("p").pause()
            await engine.execution("p", wait).signal(go, True)  # waits in the inbox, and must not be taken twice
    async with machine(tmp_path / "b", url) as tenants:
        await use(tenants, "acme", "2")
    async with Client(tmp_path / "a" / "acme.db") as client:
        await client.start(count, 3, id="asked-here")
        await client.execution("w", wait).signal(go, True)
    async with machine(tmp_path / "a", url) as tenants, tenants.open("acme") as engine:
        assert await engine.execution("asked-here", count).result(60) == 3
        assert await engine.execution("w", wait).result(60) == "acme"
        assert await engine.execution("2", count).result(60) == 2
        await engine.execution("p").resume()
        assert await engine.execution("p", wait).result(60) == "acme"
        kinds = [event.kind async for event in engine.execution("p").history()]
        assert kinds.count("signal_received") == 1
    assert not [*(tmp_path / "a").glob(".*-left-*")]
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_may_not_be_in_the_bucket_is_kept(
    url: str, until: Until, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file of a machine that did not end in order, and that another one has overtaken."""
    async with machine(tmp_path / "a", url) as tenants:
        await use(tenants, "acme", "1")
    path = tmp_path / "a" / "acme.db"
    note = read_any(path)
    assert note is not None
    assert note.complete
    write_note(path, msgspec.structs.replace(note, complete=False))  # as while it runs
    async with machine(tmp_path / "b", url) as tenants:
        await use(tenants, "acme", "2")
    async with machine(tmp_path / "a", url) as tenants:
        assert await use(tenants, "acme") == ["1", "2"]
    (left,) = [path for path in (tmp_path / "a").glob(".acme.db-left-*") if path.suffix == ".db-left-00000001"]
    async with Client(left) as client:
        assert (await client.describe("1")).id == "1"
    assert any("it is kept as" in record.message for record in caplog.records if record.levelno == logging.ERROR)


async def test_a_copied_folder_is_not_taken_for_the_newest_state(url: str, until: Until, tmp_path: Path) -> None:
    """It may be from the middle of the epoch that its note names."""
    async with machine(tmp_path / "a", url) as tenants:
        async with tenants.open("acme") as engine:
            await (await engine.start(count, 1, id="1")).result(60)
            shutil.copytree(tmp_path / "a", tmp_path / "b", ignore=shutil.ignore_patterns("*-wake", ".*-litestream"))
            await (await engine.start(count, 1, id="2")).result(60)
    async with machine(tmp_path / "b", url) as tenants:
        assert await use(tenants, "acme") == ["1", "2"]


async def test_a_tenant_that_another_machine_runs_waits_for_it(url: str, until: Until, tmp_path: Path) -> None:
    async with machine(tmp_path / "a", url, idle_s=0.2) as first, machine(tmp_path / "b", url) as second:
        async with first.open("acme") as engine:
            await engine.start(wait, "acme", id="w")
            await engine.start(count, 1, id="x", durability="replicated")
            second.tenants.clear()
            async with Client(tmp_path / "a" / "acme.db"):
                with pytest.raises(Exception, match="is run by"):
                    async with second.open("acme"):
                        raise AssertionError("two at once")
            await engine.execution("w", wait).signal(go, True)
        await all_closed(first, until)
        await until(lambda: "acme" in second.tenants and not second.tenants["acme"].problem, 60)
        async with second.open("acme") as engine:
            assert await engine.execution("w", wait).result(60) == "acme"


async def test_a_litestream_that_dies_gets_all_of_them_again(url: str, until: Until, tmp_path: Path) -> None:
    async with machine(tmp_path / "a", url, idle_s=30) as tenants:
        for name in ("acme", "beta"):
            await use(tenants, name, "before", durability="replicated")
        (pid,) = litestreams(os.getpid())
        os.kill(pid, signal.SIGKILL)
        for name in ("acme", "beta"):
            await use(tenants, name, "meanwhile")
        for name in ("acme", "beta"):
            await use(tenants, name, "after", durability="replicated")
        (new,) = litestreams(os.getpid())
        assert new != pid
        assert tenants.report().replication.restarts == 1  # type: ignore[union-attr]
    for name in ("acme", "beta"):
        assert (await restore(Target.parse(url).child(name), tmp_path / f"{name}.db")).executions == 3


async def test_while_the_bucket_is_away_nothing_is_begun_and_then_it_is(
    moto: S3Server, counting: Counting, bucket_name: str, until: Until, tmp_path: Path
) -> None:
    url = moto.url(bucket_name, "fleet").replace(moto.endpoint, counting.endpoint)
    counting.down = True
    async with machine(tmp_path / "a", url) as tenants:
        async with Client(tmp_path / "a" / "acme.db", create=True) as client:
            execution = await client.start(count, 2)
            await until(lambda: "acme" in tenants.report().problems, 60)
            assert not (await execution.info()).status.closed
            counting.down = False
            assert await execution.result(60) == 2
        await until(lambda: not tenants.report().problems, 60)


async def test_a_file_that_is_not_the_one_in_the_bucket_is_refused(url: str, until: Until, tmp_path: Path) -> None:
    async with machine(tmp_path / "a", url) as tenants:
        await use(tenants, "acme", "1")
    (tmp_path / "b").mkdir()
    async with Engine(tmp_path / "b" / "acme.db", ALL) as engine:
        await engine.start(wait, "x", id="mine")
    async with Client(tmp_path / "b" / "acme.db") as client:
        await client.start(count, 1)
    async with machine(tmp_path / "b", url) as tenants:
        await until(lambda: "is not known to be the database" in tenants.report().problems.get("acme", ""), 60)
        assert await use(tenants, "beta", "1") == ["1"]
    async with Client(tmp_path / "b" / "acme.db") as client:
        assert (await client.describe("mine")).id == "mine"


async def test_old_epochs_go_once_no_restore_can_want_them(url: str, until: Until, tmp_path: Path) -> None:
    replica = Replica(url, settings=Settings(retention_s=0.001))
    bucket = Bucket.open(replica.target.child("acme"))
    async with Tenants(tmp_path / "a", ALL, replicate=replica, idle_s=0.2) as tenants:
        for n in range(4):
            await use(tenants, "acme", str(n), durability="replicated")
            await all_closed(tenants, until)
        async with tenants.open("acme") as engine:

            async def pruned() -> bool:
                return await Epochs(bucket).all() in ([4, 5], [5])

            await until(pruned, 60)
            assert len(await engine.list()) == 4
    assert (await restore(replica.target.child("acme"), tmp_path / "copy.db")).executions == 4


async def test_a_store_without_conditional_writes_is_refused(
    rclone: S3Server, bucket_name: str, tmp_path: Path
) -> None:
    with pytest.raises(LeaseRefused, match="conditional writes"):
        async with machine(tmp_path / "a", rclone.url(bucket_name, "fleet")):
            raise AssertionError("two machines could run one tenant")


async def test_a_folder_is_a_bucket_too(until: Until, tmp_path: Path) -> None:
    tool("litestream")
    url = f"file://{tmp_path}/bucket"
    async with machine(tmp_path / "a", url) as tenants:
        assert await use(tenants, "acme", "1", durability="replicated") == ["1"]
    async with machine(tmp_path / "b", url) as tenants:
        assert await use(tenants, "acme", "2", durability="replicated") == ["1", "2"]
    with sqlite3.connect(tmp_path / "b" / "acme.db") as connection:
        assert connection.execute("SELECT count(*) FROM executions").fetchone() == (2,)
    connection.close()


async def test_closing_ends_though_the_bucket_is_away_and_the_rest_gets_there_later(
    moto: S3Server, counting: Counting, bucket_name: str, until: Until, tmp_path: Path
) -> None:
    url = moto.url(bucket_name, "fleet").replace(moto.endpoint, counting.endpoint)
    replica = Replica(url, settings=Settings(final_sync_s=1.0))
    names = [f"t{n}" for n in range(3)]
    tenants = Tenants(tmp_path / "a", ALL, replicate=replica, idle_s=60, lease_s=60, grace_s=1.0)
    async with tenants:
        for name in names:
            await use(tenants, name, "1", durability="replicated")
        counting.down = True
        for name in names:
            await use(tenants, name, "2")
        assert await tenants.close() is False
    assert litestreams(os.getpid()) == []
    counting.down = False
    async with machine(tmp_path / "a", url) as again:  # the leases could not be given back: they are this folder's
        for name in names:
            assert await use(again, name) == ["1", "2"]
    for name in names:
        assert (await restore(Target.parse(url).child(name), tmp_path / f"{name}.db")).executions == 2
