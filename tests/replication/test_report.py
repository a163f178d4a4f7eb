"""What a runner tells the other processes of its machine, and as metrics."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from perdure.engine.replicator import ReplicationStatus
from perdure.replication.report import ReportFile, metrics

STATUS = ReplicationStatus(
    url="s3://bucket/shop", epoch=3, holder="h:1", lease=None, lag_s=1.5, lag_commits=2, lag_bytes=300, commits=9,
    replicated_at=None, wal_bytes=4096, litestream="running", restarts=1, problem=None,
)  # fmt: skip


def test_what_was_written_is_read_by_who_knows_the_writer(tmp_path: Path) -> None:
    file = ReportFile(tmp_path / "shop.db")
    assert file.read(os.getpid()) is None
    file.write(STATUS)
    found = file.read(os.getpid())
    assert found is not None
    assert found.status == STATUS
    assert file.read(os.getpid() + 1) is None, "it is of a runner that is gone"
    assert file.path.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db-replication"]
    file.remove()
    file.remove()
    assert file.read(os.getpid()) is None


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"pid":1,"at":"x","status":{}}'])
def test_what_is_no_report_counts_as_none(tmp_path: Path, content: bytes) -> None:
    file = ReportFile(tmp_path / "shop.db")
    file.path.write_bytes(content)
    assert file.read(1) is None


def test_metrics_leave_out_what_is_not_known() -> None:
    lines = metrics(STATUS, 'a "b"\\').splitlines()
    values = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    label = '{database="a \\"b\\"\\\\"}'
    assert values[f"perdure_replication_lag_seconds{label}"] == "1.5"
    assert values[f"perdure_replication_ok{label}"] == "1"
    assert not [name for name in values if "drill" in name or "replicated_at" in name]
    assert "# TYPE perdure_replication_litestream_restarts_total counter" in lines


def test_metrics_tell_trouble_and_instants() -> None:
    at = datetime(2026, 11, 23, tzinfo=UTC)
    told = msgspec.structs.replace(STATUS, problem="no bucket", drill_at=at, drill_ok=False, replicated_at=at)
    text = metrics(told, "shop.db")
    assert 'perdure_replication_ok{database="shop.db"} 0\n' in text
    assert 'perdure_replication_drill_ok{database="shop.db"} 0\n' in text
    assert f'perdure_replication_replicated_at_seconds{{database="shop.db"}} {at.timestamp():.0f}\n' in text
