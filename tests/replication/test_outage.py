"""The bucket is slow, broken or away: local work goes on, the lag shows, and afterwards it catches up."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from interference import Interference, Trouble, interference
from replicated_shop import ALL, count, stream
from servers import S3Server, tool
from streaming import Book, fetch, streaming, uploaded

from perdure import Engine, activity, workflow
from perdure.errors import NotReplicated
from perdure.replication import lookout, stall
from perdure.replication import stream as stream_module
from perdure.replication import supervisor as supervisor_module
from perdure.replication.litestream import Settings
from perdure.replication.progress import Lag
from perdure.replication.replica import Replica
from perdure.replication.restore import restore
from perdure.replication.stream import LitestreamStream
from perdure.replication.target import Target

Until = Callable[..., Any]
FAST = Settings(final_sync_s=20.0)
OUTAGE_S = float(os.environ.get("PERDURE_OUTAGE_S") or 0)
"""How long an outage lasts at the least: some minutes by hand."""
PATIENCE_S = 60.0 + OUTAGE_S


@pytest.fixture
def proxy(rclone: S3Server) -> Iterator[Interference]:
    tool("litestream")
    with interference(rclone.endpoint) as made:
        yield made


@pytest.fixture
def url(rclone: S3Server, proxy: Interference, bucket_name: str) -> str:
    """The replica, reached through the proxy."""
    return rclone.url(bucket_name, "shop").replace(urlsplit(rclone.endpoint).netloc, f"127.0.0.1:{proxy.port}")


@pytest.mark.slow
@pytest.mark.parametrize("trouble", ["slow", "drop", "reset", "500", "503", "403", "away"])
async def test_local_work_goes_on_and_the_replica_catches_up(
    proxy: Interference,
    url: str,
    database: Path,
    tmp_path: Path,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Trouble,
) -> None:
    if trouble == "drop":  # Litestream awaits the answers that were lost for a day
        monkeypatch.setattr(stall, "STUCK_S", 0.5)
        monkeypatch.setattr(lookout, "PROBE_S", 0.5)
    alarms: list[Lag] = []
    replica = Replica(url, wait_s=0.3, lag_alarm_s=0.6, on_lag=alarms.append, settings=FAST)
    async with Engine(database, ALL, replicate=replica) as engine:
        found = replica.streams[0]
        await (await engine.start(count, 2, id="before")).result(30)
        await until(lambda: found.lag().commits == 0 and found._announced, PATIENCE_S)
        proxy.make(trouble)
        for number in range(20):
            await (await engine.start(count, 3, id=f"during-{number}")).result(10)
        if trouble != "slow":
            await keep_busy_until(engine, lambda: alarms and (trouble != "drop" or found.lookout.stall.outage))
            assert alarms[0].seconds > 0.6
            assert found.lag().commits > 0
            began = time.monotonic()
            await keep_busy_until(engine, lambda: time.monotonic() > began + OUTAGE_S)
            with pytest.raises(NotReplicated):
                await engine.start(count, 1, id="not there", durability="replicated")
        proxy.make("none")
        await (await engine.start(count, 2, id="after")).result(10)
        await until(lambda: found.lag() == (0, 0.0, found.progress.replicated_at), PATIENCE_S)
        await until(lambda: found.problem is None, PATIENCE_S)
        if trouble != "slow":
            await until(lambda: len(alarms) == 2, PATIENCE_S)
            assert alarms[1].seconds < 0.6
        executions = sum((await engine.counts()).values())
    assert found.complete
    done = await restore(Target.parse(url), tmp_path / "restored.db")
    assert (done.executions, done.passed_over) == (executions, [])


async def keep_busy_until(engine: Engine, condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await (await engine.start(count, 1)).result(10)
            await asyncio.sleep(0.02)


async def test_a_bucket_that_is_away_at_the_start_keeps_nobody_waiting(
    proxy: Interference, url: str, database: Path, until: Until
) -> None:
    proxy.make("away")
    replica = Replica(url)
    async with Engine(database, ALL, replicate=replica) as engine:
        found = replica.streams[0]
        assert await (await engine.start(count, 2)).result(10) == 2
        await until(lambda: found.problem is not None and "starting" not in found.problem)
        assert found.lag().commits > 0
        proxy.make("none")
        await until(lambda: found.lag().commits == 0 and found.problem is None, PATIENCE_S)


async def test_one_that_does_not_see_that_an_outage_is_over_is_started_anew(
    proxy: Interference, url: str, database: Path, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Litestream's pauses after an outage double, up to five minutes. Here one that stands still waits for ever."""
    monkeypatch.setattr(stall, "STUCK_S", 0.3)
    monkeypatch.setattr(stream_module, "LOOK_EVERY_S", 0.1)
    monkeypatch.setattr(supervisor_module, "HEALTH_EVERY_S", 3600.0)  # which sees that it hangs, later
    replica = Replica(url, settings=FAST)
    async with Engine(database, ALL, replicate=replica) as engine:
        found = replica.streams[0]
        await until(lambda: found._announced, PATIENCE_S)
        supervisor = found.supervisor
        assert supervisor is not None
        os.kill(supervisor.pid or 0, signal.SIGSTOP)
        proxy.make("away")
        await (await engine.start(count, 2)).result(10)
        await until(lambda: found.lookout.stall.outage)
        assert "does not answer" in (found.problem or "")
        assert supervisor.restarts == 0
        proxy.make("none")
        await until(lambda: supervisor.restarts == 1, PATIENCE_S)
        await until(lambda: found.lag().commits == 0, PATIENCE_S)
    assert (await restore(Target.parse(url), tmp_path / "restored.db")).executions == 1


async def test_what_did_not_get_there_before_the_end_is_told(
    proxy: Interference, url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Litestream itself ends with exit code 0 then."""
    book = Book(tmp_path / "book.db")
    target = Target.parse(url)
    async with streaming(book, target, settings=Settings(interval_s=0.1, final_sync_s=0.5)) as made:
        book.add(3)
        await uploaded(made, book.path)
        proxy.make("away")
        book.add(3)
        assert await made.stop() is False
    assert "failed to close database" in caplog.text
    proxy.make("none")
    assert fetch(target, tmp_path) == [0, 1, 2]
    book.close()


@activity
async def fill(size: int) -> str:
    return os.urandom(size // 2).hex()


@workflow
async def filled(steps: int, size: int) -> int:
    for _ in range(steps):
        await fill(size)
    return steps


async def test_the_log_is_kept_in_bounds_while_litestream_is_away(
    rclone: S3Server, bucket_name: str, database: Path, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("litestream")
    monkeypatch.setattr(stream_module, "LOOK_EVERY_S", 0.05)
    monkeypatch.setattr(supervisor_module, "BACKOFF_S", (3600.0,))  # each start would empty it as well
    replica = Replica(rclone.url(bucket_name, "shop"), log_limit_bytes=400_000, settings=Settings(final_sync_s=0.2))
    async with Engine(database, [filled], replicate=replica) as engine:
        found = replica.streams[0]
        await until(lambda: found._announced, PATIENCE_S)
        kill_it(found)
        for _ in range(5):
            await (await engine.start(filled, 10, 50_000)).result(30)
            await until(lambda: found.site.store.log_bytes() <= replica.log_limit_bytes)
    assert not found.complete
    await stream(database, replica.url)
    assert (await restore(replica.target, tmp_path / "restored.db")).executions == 5


@pytest.mark.parametrize("trouble", ["away", "503", "no writes"])
async def test_what_an_outage_leaves_on_the_disk_is_kept_in_bounds(
    proxy: Interference, url: str, database: Path, tmp_path: Path, until: Until, monkeypatch: pytest.MonkeyPatch,
    trouble: Trouble,
) -> None:  # fmt: skip
    """Where requests fail Litestream stops emptying the log; where they are refused it makes one file after another."""
    monkeypatch.setattr(stall, "STUCK_S", 0.3)
    monkeypatch.setattr(lookout, "PROBE_S", 0.5)
    monkeypatch.setattr(stream_module, "LOOK_EVERY_S", 0.05)
    replica = Replica(url, log_limit_bytes=300_000, settings=FAST)
    async with Engine(database, [filled], replicate=replica) as engine:
        found = replica.streams[0]
        await until(lambda: found._announced and found.lag().commits == 0, PATIENCE_S)
        found.beacon.at_most_every_s = 0.1
        proxy.make(trouble)
        supervisor, done = found.supervisor, 0
        assert supervisor is not None
        async with asyncio.timeout(PATIENCE_S):
            while supervisor.problem != "litestream rests until the bucket answers":
                await (await engine.start(filled, 5, 20_000)).result(30)
                done += 1
        assert supervisor.pid is None
        assert "rests" in (found.problem or "") or "does not answer" in (found.problem or "")
        left = found.waiting_bytes()
        for _ in range(5):
            await (await engine.start(filled, 10, 50_000)).result(30)
            await until(lambda: found.site.store.log_bytes() <= replica.log_limit_bytes)
            done += 1
        assert found.waiting.bytes(found.progress.positions.replicated_txid) <= left
        assert supervisor.pid is None
        found.lookout.stall.outage = False  # as when something arrived late
        proxy.make("none")
        await until(lambda: found.lag().commits == 0 and found.problem is None, PATIENCE_S)
        await (await engine.start(filled, 1, 1)).result(30)
    assert found.complete
    assert (await restore(Target.parse(url), tmp_path / "restored.db")).executions == done + 1


def kill_it(found: LitestreamStream) -> None:
    assert found.supervisor is not None
    assert found.supervisor.pid is not None
    os.kill(found.supervisor.pid, signal.SIGKILL)


async def test_a_bucket_that_goes_away_for_the_end_of_a_run_costs_nothing_local(
    proxy: Interference, url: str, database: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replica = Replica(url, settings=Settings(final_sync_s=0.5))
    await stream(database, url, "a")
    async with Engine(database, ALL, replicate=replica) as engine:
        proxy.make("away")
        await (await engine.start(count, 2, id="b")).result(10)
    assert not replica.streams[0].complete
    assert "did not get into the replica in time" in caplog.text
    proxy.make("none")
    await stream(database, url)
    assert (await restore(Target.parse(url), tmp_path / "restored.db")).executions == 2
