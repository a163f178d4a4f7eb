"""The beacon is written when it matters and now and then, never more often, and its troubles are its own."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from virtual_time import run_virtually

from perdure.replication.beacon import KEY, Beacon, BeaconUnreadable, BeaconWriter, decode, encode
from perdure.replication.refusal import BucketUnreachable

NOW = datetime(2026, 1, 1, tzinfo=UTC)
FULL = Beacon(
    database_id="d", epoch=7, holder="web-1:17:aa", heartbeat_at=NOW, schema_version=3, code_version="0.2",
    deployment="2026-01-01", counts={"running": 2}, last_error="boom", lag_s=0.25, lag_commits=3, size_bytes=4096,
    replicated_at=NOW,
)  # fmt: skip


class Site:
    """A database whose beacon is written to memory."""

    name = "memory"

    def __init__(self) -> None:
        self.beacon = FULL
        self.fail: Exception | None = None
        self.writes: list[tuple[float, Beacon]] = []
        self.writer = BeaconWriter(self, self.read, at_most_every_s=5.0, heartbeat_s=60.0, now=lambda: NOW)  # type: ignore[arg-type] # as far as it needs one

    def read(self) -> Beacon:
        return self.beacon

    async def put(self, key: str, data: bytes) -> str:
        assert key == KEY
        if self.fail is not None:
            raise self.fail
        self.writes.append((asyncio.get_running_loop().time(), decode(data)))
        return "etag"

    def change(self, **changes: Any) -> None:
        self.beacon = msgspec.structs.replace(self.beacon, **changes)
        self.writer.touch()

    @property
    def times(self) -> list[float]:
        return [round(at, 3) for at, _ in self.writes]


def test_a_beacon_is_read_as_it_was_written() -> None:
    assert decode(encode(FULL)) == FULL
    assert decode(encode(Beacon(database_id="d"))) == Beacon(database_id="d")
    assert b'"heartbeat_at": "2026-01-01T00:00:00Z"' in encode(FULL)


def test_other_versions_are_understood() -> None:
    data = msgspec.json.decode(encode(FULL)) | {"colour": "blue"}
    assert decode(msgspec.json.encode(data)) == FULL
    assert decode(b'{"database_id":"d"}') == Beacon(database_id="d")
    assert decode(b'{"database_id":"d","counts":{"dreaming":1}}').counts == {"dreaming": 1}


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"{}", b'{"database_id":1}'])
def test_what_is_no_beacon_is_said_to_be_none(data: bytes) -> None:
    with pytest.raises(BeaconUnreadable):
        decode(data)


def test_it_is_written_at_once_then_on_change_and_as_a_heartbeat() -> None:
    async def check() -> None:
        site = Site()
        site.writer.start()
        await asyncio.sleep(30)
        assert site.times == [0]
        site.change(counts={"running": 3})
        await asyncio.sleep(1)
        assert site.times == [0, 30]
        await asyncio.sleep(200)
        assert site.times == [0, 30, 90, 150, 210]
        assert site.writes[1][1].counts == {"running": 3}
        await site.writer.close()

    run_virtually(check())


def test_what_does_not_matter_waits_for_the_heartbeat() -> None:
    async def check() -> None:
        site = Site()
        site.writer.start()
        for n in range(500):
            await asyncio.sleep(0.1)
            site.change(lag_s=n / 10, lag_commits=n, size_bytes=n, replicated_at=datetime.now(UTC))
        assert site.times == [0]
        await asyncio.sleep(15)
        assert len(site.times) == 2
        assert site.writes[1][1].lag_commits == 499
        await site.writer.close()

    run_virtually(check())


def test_many_changes_are_written_at_most_every_few_seconds() -> None:
    async def check() -> None:
        site = Site()
        site.writer.start()
        counts: dict[str, int] = {"completed": 0}
        for n in range(1000):
            await asyncio.sleep(0.1)
            counts["completed"] = n  # the same dict, changed in place
            site.change(counts=counts)
        apart = [later - earlier for earlier, later in zip(site.times, site.times[1:], strict=False)]
        assert min(apart) >= 5.0
        assert 18 <= len(site.times) <= 21
        await site.writer.close()

    run_virtually(check())


def test_an_outage_is_logged_once_and_made_up_for(caplog: pytest.LogCaptureFixture) -> None:
    async def check() -> None:
        site = Site()
        site.writer.start()
        await asyncio.sleep(10)
        site.fail = BucketUnreachable("no answer")
        for n in range(50):
            site.change(epoch=100 + n)
            await asyncio.sleep(10)
        assert "no answer" in (site.writer.problem or "")
        assert sum("could not be written" in record.message for record in caplog.records) == 1
        site.fail = None
        await asyncio.sleep(6)
        assert site.writes[-1][1].epoch == 149
        assert site.writer.problem is None
        assert sum("written again" in record.message for record in caplog.records) == 1
        await site.writer.close()

    with caplog.at_level(logging.INFO, "perdure.replication"):
        run_virtually(check())


def test_a_reader_that_fails_ends_nothing() -> None:
    async def check() -> None:
        site = Site()
        read, site.writer.read = site.writer.read, lambda: 1 / 0
        site.writer.start()
        await asyncio.sleep(20)
        assert "ZeroDivisionError" in (site.writer.problem or "")
        site.writer.read = read
        await asyncio.sleep(6)
        assert len(site.writes) == 1
        await site.writer.close()

    run_virtually(check())


def test_a_clean_stop_says_that_nobody_runs_it() -> None:
    async def check() -> None:
        site = Site()
        await site.writer.close()  # never started: nothing
        assert site.writes == []
        site.writer.start()
        await asyncio.sleep(1)
        await site.writer.close()
        assert site.writes[-1][1].holder is None
        assert site.writes[-1][1].database_id == "d"
        site.fail = BucketUnreachable("no answer")
        site.writer.start()
        await asyncio.sleep(1)
        await site.writer.close()  # never raises

    run_virtually(check())
