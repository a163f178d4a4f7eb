"""Disposable compute: a machine takes the lease, fetches the newest state, runs it; another one takes over."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from replica_machines import Machine, Machines, machines
from replicated_shop import ALL, count, go, slowly, stream, wait
from servers import S3Server, tool

from perdure import Client, Engine
from perdure.errors import StoreError
from perdure.replication.beacon import KEY as BEACON
from perdure.replication.beacon import decode
from perdure.replication.bucket import Bucket
from perdure.replication.claim import Claim
from perdure.replication.epochs import Epochs
from perdure.replication.lease_object import KEY, LeaseRefused, read_record
from perdure.replication.lease_state import LeaseHeld
from perdure.replication.litestream import Settings
from perdure.replication.replica import Replica
from perdure.replication.restore import restore
from perdure.replication.target import Target

Until = Callable[..., Any]
LEASE_S = 4.0


@pytest.fixture
def target(moto: S3Server, bucket_name: str) -> Target:
    tool("litestream")
    return Target.parse(moto.url(bucket_name, "shop"))


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Machines]:
    with machines(tmp_path) as made:
        yield made


async def running(machine: Machine) -> Machine:
    await machine.until_it_says("runner with epoch")
    return machine


async def names(path: Path) -> set[str]:
    async with Client(path) as client:
        return {info.id for info in await client.list()}


async def test_a_claim_brings_the_newest_state_and_takes_its_copy_away(target: Target, database: Path) -> None:
    steps: list[str] = []
    async with Claim(Replica(target.url), progress=steps.append) as claim:
        assert claim.restored is None
        assert claim.lease.epoch == 1
        await stream_by(claim, "a")
        folder = claim.path.parent
    assert not folder.exists()
    assert steps[-1] == "there is nothing in the bucket yet: a new database"
    async with Claim(Replica(target.url)) as claim:
        assert claim.restored is not None
        assert (claim.lease.epoch, claim.restored.executions) == (2, 1)
        await stream_by(claim, "b")
    done = await restore(target, database)
    assert (done.epoch, await names(database)) == (2, {"a", "b"})


async def stream_by(claim: Claim, id: str) -> None:
    async with Engine(claim.path, ALL, replicate=claim.replica, durability="replicated") as engine:
        await (await engine.start(count, 2, id=id)).result(60)


async def test_one_at_a_time(target: Target) -> None:
    async with Claim(Replica(target.url)):
        with pytest.raises(LeaseHeld):
            async with Claim(Replica(target.url), patience_s=0.1):
                raise AssertionError("two at once")
    record = await Bucket.open(target).get(KEY)
    assert record is not None
    assert read_record(record.data, "shop").released


async def test_a_store_without_conditional_writes_is_refused(rclone: S3Server, bucket_name: str) -> None:
    with pytest.raises(LeaseRefused, match="conditional writes") as raised:
        async with Claim(Replica(rclone.url(bucket_name, "shop"))):
            raise AssertionError("two could run it at once")
    assert "without a lease" in raised.value.hint


async def test_a_copy_with_commits_that_are_not_in_the_bucket_is_kept(
    target: Target, until: Until, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is the only one."""
    replica = Replica(target.url, settings=Settings(final_sync_s=0.2))
    async with Claim(replica) as claim:
        await stream_by(claim, "a")
    async with Claim(replica, folder=tmp_path) as claim:
        async with Engine(claim.path, ALL, replicate=claim.replica) as engine:
            found = claim.replica.streams[0]
            await until(lambda: found.supervisor is not None and found.supervisor.pid)
            os.kill(found.supervisor.pid, signal.SIGSTOP)  # type: ignore[union-attr, arg-type] # it was waited for
            await engine.start(count, 1, id="b")
            path = claim.path
            monkeypatch.setattr("perdure.replication.supervisor.LAST_WORDS_S", 0.1)
    assert not found.complete
    assert f"{path} is kept" in caplog.text
    assert await names(path) == {"a", "b"}


async def test_without_a_valid_lease_nothing_is_committed(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    async with Claim(Replica(target.url)) as claim:
        async with Engine(claim.path, ALL, replicate=claim.replica) as engine:
            with monkeypatch.context() as patched:
                patched.setattr(claim.lease, "valid", lambda: False)
                with pytest.raises(StoreError, match="in doubt"):
                    await engine.start(count, 2, id="a")
            assert await names(claim.path) == set()
            assert await (await engine.start(count, 2, id="b")).result(30) == 2  # and it goes on by itself


async def test_a_zombie_writes_no_beacon(target: Target, until: Until) -> None:
    """Nothing but its own epoch: the beacon is that of whoever runs the database now."""
    bucket = Bucket.open(target)
    async with Claim(Replica(target.url)) as claim:
        async with Engine(claim.path, ALL, replicate=claim.replica) as engine:
            await until(lambda: claim.replica.streams[0]._announced)
            record = await bucket.get(KEY)
            assert record is not None
            theirs = record.data.replace(claim.lease.holder.encode(), b"other:1:abc")
            await bucket.put(KEY, theirs)
            await bucket.put(BEACON, b'{"database_id": "x", "holder": "other:1:abc"}')
            await claim.lease._renew()  # refused
            claim.lease._lose("other:1:abc runs the database now")
            await until(lambda: engine.barred is not None)
    found = await bucket.get(BEACON)
    assert found is not None
    assert decode(found.data).holder == "other:1:abc"
    assert (await bucket.get(KEY)).data == theirs  # type: ignore[union-attr]


# --- machines -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
async def test_killed_another_machine_takes_over_and_goes_on_with_everything(
    target: Target, start: Machines, until: Until
) -> None:
    first = await running(start("--db", target.url, "--lease", f"{LEASE_S}s"))
    async with Client(first.path, durability="replicated") as client:
        for number in range(5):
            await client.start(wait, f"w{number}", id=f"w{number}")
        await client.start(slowly, 40, 0.05, id="s")
    second = start("--db", target.url, "--lease", f"{LEASE_S}s")
    await second.until_it_says("waiting for the lease")
    assert "runner with epoch" not in second.said
    first.process.kill()
    await running(second)
    assert second.path != first.path
    async with Client(second.path) as client:
        for number in range(5):
            await client.execution(f"w{number}").signal(go, True)
            assert await client.execution(f"w{number}").result(30) == f"w{number}"
        assert await client.execution("s").result(60) == 40
    second.send(signal.SIGTERM)
    assert await second.until_it_ends() == 0
    assert not list(second.folder.glob("perdure-*"))


@pytest.mark.slow
async def test_after_a_clean_stop_the_next_one_starts_at_once(target: Target, start: Machines) -> None:
    """With a lease that is longer than this test is patient."""
    first = await running(start("--db", target.url, "--lease", "1h"))
    async with Client(first.path, durability="replicated") as client:
        await client.start(wait, "w", id="w")
    second = start("--db", target.url, "--lease", "1h")
    await second.until_it_says("waiting for the lease")
    first.send(signal.SIGTERM)
    assert await first.until_it_ends() == 0
    await running(second)
    async with Client(second.path) as client:
        await client.execution("w").signal(go, True)
        assert await client.execution("w").result(30) == "w"


@pytest.mark.slow
@pytest.mark.parametrize("lid", [False, True], ids=["process", "machine"])
async def test_a_zombie_says_so_and_stops_and_harms_nothing(
    target: Target, start: Machines, until: Until, tmp_path: Path, lid: bool
) -> None:
    """Trap 3: two writers on one path make a file that cannot be read. Each has a path of its own."""
    first = await running(start("--db", target.url, "--lease", f"{LEASE_S}s"))
    async with Client(first.path, durability="replicated") as client:
        await client.start(slowly, 2_000, 0.02, id="s")
    litestream = first.litestream
    first.send(signal.SIGSTOP)
    if lid:
        os.kill(litestream, signal.SIGSTOP)
    second = await running(start("--db", target.url, "--lease", f"{LEASE_S}s"))
    async with Client(second.path, durability="replicated") as client:
        await client.execution("s").terminate("enough")
        await (await client.start(count, 2, id="new")).result(30)
        if lid:
            os.kill(litestream, signal.SIGCONT)
        first.send(signal.SIGCONT)
        assert await first.until_it_ends() == 4
        assert "stopped: " in first.said
        assert "runs the database now" in first.said
        await (await client.start(count, 2, id="newer")).result(30)
    bucket = Bucket.open(target)
    assert (await Epochs(bucket).current()).epoch == 2  # type: ignore[union-attr]
    beacon = await bucket.get(BEACON)
    assert beacon is not None
    assert f":{second.process.pid}:" in (decode(beacon.data).holder or "")
    done = await restore(target, tmp_path / "new.db")
    assert (done.epoch, done.passed_over, await names(done.path)) == (2, [], {"s", "new", "newer"})


@pytest.mark.slow
async def test_of_two_that_start_together_one_runs(target: Target, start: Machines, until: Until) -> None:
    both = [start("--db", target.url, "--lease", "30s") for _ in range(2)]
    for machine in both:
        await machine.until_it_says("waiting for the lease")
    await until(lambda: any("runner with epoch" in machine.said for machine in both), 60.0)
    (winner,) = [machine for machine in both if "runner with epoch" in machine.said]
    (other,) = [machine for machine in both if machine is not winner]
    async with Client(winner.path, durability="replicated") as client:
        await client.start(wait, "w", id="w")
    assert "runner with epoch" not in other.said
    other.send(signal.SIGTERM)  # while it waits
    assert await other.until_it_ends() == 0


async def test_it_takes_a_replica_that_was_made_without_a_lease(target: Target, database: Path) -> None:
    await stream(database, target, "a")
    await stream(database, target, "b")
    async with Claim(Replica(target.url)) as claim:
        assert claim.lease.epoch == 3
        assert await names(claim.path) == {"a", "b"}


def test_a_place_for_the_copy_may_be_given(target: Target, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)

    async def run() -> Path:
        async with Claim(Replica(target.url), folder=tmp_path / "here") as claim:
            return claim.path

    assert asyncio.run(run()).parent.parent == tmp_path / "here"
    assert list((tmp_path / "here").iterdir()) == []
