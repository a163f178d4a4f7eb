"""Drills: a sound replica passes; one that is old, altered, incomplete or forgotten does not."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import apsw
import msgspec
import pytest
from servers import tool

from perdure import Engine, activity, workflow
from perdure.engine.replicator import ReplicationStatus
from perdure.replication import beacon
from perdure.replication.bucket import Bucket
from perdure.replication.chores import Chores
from perdure.replication.drill import drill
from perdure.replication.drill_report import DrillReport, Verdict
from perdure.replication.epochs import path_of
from perdure.replication.records import Records
from perdure.replication.replica import Replica
from perdure.replication.target import Target
from perdure.store.sqlite.moment import Moment

PATIENCE_S = 60.0


@activity
async def add(n: int) -> int:
    return n + 1


@workflow
async def count(n: int) -> int:
    for _ in range(3):
        n = await add(n)
    return n


@workflow(name="count")
async def other(n: int) -> int:
    return n


async def until(there: Callable[[], Awaitable[object]], patience_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(patience_s):
        while not await there():
            await asyncio.sleep(0.05)


async def fill(path: Path, url: str) -> ReplicationStatus:
    """Run some executions, in two parts, and stop once a record of all of them is in the bucket; give the last
    status."""
    async with Engine(path, workflows=[count], replicate=Replica(url, record_every_s=0.1)) as engine:
        for n in range(6):
            await (await engine.start(count, n, id=str(n))).result()
            if n % 3 == 2:
                await recorded(engine, url)
        status = engine.replication
        assert status is not None
        return status


async def recorded(engine: Engine, url: str) -> None:
    """Wait until all that there is now is in the bucket, and a record of it as well."""
    records = Records(Bucket.open(Target.parse(url)))
    with Moment(engine.path) as moment:
        wanted = moment.digests()

    async def there() -> bool:
        status = engine.replication
        assert status is not None
        found = await records.newest(status.epoch)
        return found is not None and found.tables == wanted and status.lag_commits == 0

    await until(there)


def verdicts(report: DrillReport) -> dict[str, Verdict]:
    return {one.check: one.verdict for one in report.checks}


def details(report: DrillReport) -> str:
    return "\n".join(f"{one.check} {one.verdict} {one.detail}" for one in report.checks)


@pytest.fixture
def url(tmp_path: Path) -> str:
    tool("litestream")
    return f"file://{tmp_path}/bucket"


@pytest.mark.parametrize("server", ["rclone", "moto"])
async def test_a_sound_replica_passes(
    request: pytest.FixtureRequest, server: str, bucket_name: str, tmp_path: Path
) -> None:
    tool("litestream")
    url = request.getfixturevalue(server).url(bucket_name, "shop")
    status = await fill(tmp_path / "shop.db", url)
    assert (status.problem, status.litestream, status.chores) == (None, "running", {})
    assert "endpoint" not in status.url
    report = await drill(Target.parse(url), code=[count], folder=tmp_path)
    assert report.ok, details(report)
    assert verdicts(report) == dict.fromkeys(
        ["runner", "content", "restore", "histories", "events", "replay"], Verdict.OK
    )
    assert list(tmp_path.glob("perdure-drill-*")) == [], "nothing is left behind"

    changed = await drill(Target.parse(url), code=[other])
    assert [one.check for one in changed.problems] == ["replay"]


async def test_an_old_replica_is_found_that_passes_every_check_of_itself(url: str, tmp_path: Path) -> None:
    """What a missed page leaves: the file is whole, and a row in it is that of before."""
    target, path = Target.parse(url), tmp_path / "shop.db"
    await fill(path, url)
    records = Records(Bucket.open(target))
    record = await records.newest(1)
    assert record is not None
    with contextlib.closing(apsw.Connection(str(path))) as connection:  # the runner's file went on
        connection.execute("UPDATE perdure_event SET data = '8' WHERE execution = 5 AND seq = 8")
    with Moment(path) as moment:
        await records.bucket.put(
            record.key, msgspec.json.encode(msgspec.structs.replace(record, tables=moment.digests()))
        )
    report = await drill(target)
    assert verdicts(report) | {"content": Verdict.OK} == dict.fromkeys(verdicts(report), Verdict.OK)
    assert [one.check for one in report.problems] == ["content"]
    assert "perdure_event" in report.problems[0].detail
    assert "perdure_execution" not in report.problems[0].detail


async def test_a_replica_that_ends_too_early_is_found(url: str, tmp_path: Path) -> None:
    """The newest objects are gone: what is left restores without a complaint."""
    target = Target.parse(url)
    await fill(tmp_path / "shop.db", url)
    bucket = Bucket.open(target)
    entries = [entry.key for entry in await bucket.entries(path_of(1)) if entry.key.endswith(".ltx")]
    for key in sorted(entries)[1:]:
        await bucket.delete(key)
    report = await drill(target)
    assert [one.check for one in report.problems] == ["content"], details(report)
    assert "cannot be restored" in report.problems[0].detail


async def test_a_transaction_that_was_merged_with_later_ones_is_no_loss(url: str, tmp_path: Path) -> None:
    """It cannot be compared any more, which is said; everything else is looked at."""
    target = Target.parse(url)
    await fill(tmp_path / "shop.db", url)
    bucket = Bucket.open(target)
    records = Records(bucket)
    record = await records.newest(1)
    assert record is not None
    for entry in await bucket.entries(path_of(1)):
        if entry.key.endswith(f"-{record.txid:016x}.ltx"):
            found = await bucket.get(entry.key)
            assert found is not None
            await bucket.put(entry.key.replace(f"-{record.txid:016x}", f"-{record.txid + 3:016x}"), found.data)
            await bucket.delete(entry.key)
    report = await drill(target)
    assert verdicts(report)["content"] is Verdict.NOTE, details(report)


async def test_a_replica_that_cannot_be_restored_fails(url: str, tmp_path: Path) -> None:
    target = Target.parse(url)
    await fill(tmp_path / "shop.db", url)
    bucket = Bucket.open(target)
    for entry in await bucket.entries(path_of(1)):
        await bucket.delete(entry.key)
    report = await drill(target)
    assert {one.check for one in report.problems} == {"content", "restore"}, details(report)


async def test_without_a_record_nothing_is_proved(url: str, tmp_path: Path) -> None:
    target = Target.parse(url)
    await fill(tmp_path / "shop.db", url)
    bucket = Bucket.open(target)
    for entry in await bucket.entries("records"):
        await bucket.delete(entry.key)
    stopped = await drill(target)
    assert stopped.ok, "it may have stopped before it made one"
    assert verdicts(stopped)["content"] is Verdict.NOTE
    assert verdicts(stopped)["histories"] is Verdict.OK, "the rest is looked at"

    found = await bucket.get(beacon.KEY)
    assert found is not None
    told = beacon.decode(found.data)
    for other in ({"holder": "shop-1:7"}, {"epoch": told.epoch - 1}):  # it runs, or another one is what stopped
        await bucket.put(beacon.KEY, beacon.encode(msgspec.structs.replace(told, **other)))
        report = await drill(target)
        assert [one.check for one in report.problems] == ["content"], details(report)


async def test_a_runner_that_stops_before_its_first_record_is_no_problem(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(chores: Chores) -> float:
        await asyncio.Event().wait()
        return 0.0

    monkeypatch.setattr(Chores, "_record", never)  # that it had no time for it
    async with Engine(tmp_path / "shop.db", workflows=[count], replicate=Replica(url)) as engine:
        await (await engine.start(count, 1, id="1", durability="replicated")).result()
    report = await drill(Target.parse(url), code=[count])
    assert report.ok, details(report)
    assert verdicts(report)["content"] is Verdict.NOTE
    assert "stopped before" in details(report)


async def test_a_runner_that_went_silent_is_a_problem(url: str, tmp_path: Path) -> None:
    target = Target.parse(url)
    await fill(tmp_path / "shop.db", url)
    bucket = Bucket.open(target)
    found = await bucket.get(beacon.KEY)
    assert found is not None
    told = msgspec.structs.replace(
        beacon.decode(found.data), holder="shop-1:7", heartbeat_at=datetime.now(UTC) - timedelta(hours=1)
    )
    await bucket.put(beacon.KEY, beacon.encode(told))
    report = await drill(target)
    assert [one.check for one in report.problems] == ["runner"]
    assert "shop-1:7" in report.problems[0].detail


async def test_an_empty_prefix_fails(tmp_path: Path) -> None:
    report = await drill(Target.parse(f"file://{tmp_path}/nothing"))
    assert [one.check for one in report.problems] == ["epoch"]
