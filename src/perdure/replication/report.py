"""How the replication of one database is doing: told beside the file, for other processes, and as metrics.

1. The file is written at most once a second and when the trouble changes, in one step, readable by this user only.
2. It counts while the process that wrote it holds the runner's lock.
"""

from __future__ import annotations

import contextlib
import os
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from perdure.engine.replicator import ReplicationStatus

SILENT_S = 10.0
"""A runner that has written nothing for so long stands still."""


class Report(msgspec.Struct, frozen=True):
    """The content of the file. `at` is when it was written, UTC."""

    pid: int
    at: datetime
    status: ReplicationStatus


class ReportFile:
    """`<database>-replication`: write it as the runner, read it as anyone."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(f"{database.name}-replication")

    def write(self, status: ReplicationStatus) -> None:
        """Raises `OSError`."""
        fresh = self.path.with_name(f"{self.path.name}.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(msgspec.json.encode(Report(os.getpid(), datetime.now(UTC), status)))
        os.replace(fresh, self.path)

    def read(self, pid: int) -> Report | None:
        """Give what the process `pid` has written; None when it wrote nothing."""
        try:
            found = msgspec.json.decode(self.path.read_bytes(), type=Report)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None
        return found if found.pid == pid else None

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


def metrics(status: ReplicationStatus, database: str) -> str:
    """Write a status in the text format of Prometheus. `database` becomes a label."""
    values: dict[str, tuple[str, float | None]] = {
        "lag_seconds": ("Age of the oldest commit that is not in the replica.", status.lag_s),
        "lag_commits": ("Commits that are not in the replica.", status.lag_commits),
        "lag_bytes": ("Bytes that wait to be uploaded.", status.lag_bytes),
        "wal_bytes": ("Size of the write-ahead log.", status.wal_bytes),
        "litestream_restarts_total": ("How often Litestream was started again.", status.restarts),
        "epoch": ("Where it streams to.", status.epoch),
        "ok": ("1 when nothing keeps commits from the replica.", float(status.problem is None)),
        "replicated_at_seconds": ("Instant of the newest commit that is there.", _unix(status.replicated_at)),
        "snapshot_at_seconds": ("Instant of the newest snapshot.", _unix(status.snapshot_at)),
        "drill_at_seconds": ("When the last drill ended.", _unix(status.drill_at)),
        "drill_ok": ("1 when the last drill found nothing wrong.", status.drill_ok if status.drill_at else None),
    }
    escaped = database.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    lines = []
    for name, (help, value) in values.items():
        if value is not None:
            full, kind = f"perdure_replication_{name}", "counter" if name.endswith("_total") else "gauge"
            lines += [f"# HELP {full} {help}", f"# TYPE {full} {kind}"]
            lines.append(f'{full}{{database="{escaped}"}} {float(value):.15g}')
    return "\n".join(lines) + "\n"


def _unix(at: datetime | None) -> float | None:
    return None if at is None else at.timestamp()
