"""What the process that looks after a folder tells others: what is open, what is wrong. A small file in the folder.

It is written at most once a second and when it says something else, in one step; it counts while its writer lives.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import msgspec

from perdure.tenants.record import State, Tenant

AT_MOST_EVERY_S = 1.0


class FleetStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How the one Litestream is that streams all of them."""

    url: str
    litestream: str
    """`starting`, `running` or `away`."""
    pid: int | None = None
    restarts: int = 0
    problem: str | None = None


class FolderReport(msgspec.Struct, frozen=True, kw_only=True):
    """What is told: counts, the names of those that are not closed, and what is wrong with which."""

    pid: int
    at: datetime
    tenants: int
    open: dict[str, str] = {}
    """By name: `opening`, `open` or `closing`."""
    problems: dict[str, str] = {}
    away: list[str] = []
    """What is in the bucket and not here yet."""
    replication: FleetStatus | None = None

    @classmethod
    def of(cls, tenants: Iterable[Tenant], replication: FleetStatus | None) -> FolderReport:
        everyone = list(tenants)
        return cls(
            pid=os.getpid(),
            at=datetime.now(UTC),
            tenants=len(everyone),
            open={tenant.name: tenant.state.value for tenant in everyone if tenant.state is not State.CLOSED},
            problems={tenant.name: tenant.problem for tenant in everyone if tenant.problem is not None},
            away=sorted(tenant.name for tenant in everyone if tenant.away),
            replication=replication,
        )


class ReportFile:
    """`.perdure-tenants.json` in the folder."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ".perdure-tenants.json"
        self._written: FolderReport | None = None
        self._at = 0.0

    def write(self, report: FolderReport) -> None:
        """Write it if it says something else than before. Raises `OSError`."""
        last = self._written
        if last is not None and msgspec.structs.replace(report, at=last.at) == last:
            return
        if time.monotonic() - self._at < AT_MOST_EVERY_S:
            return
        self._written, self._at = report, time.monotonic()
        fresh = self.path.with_name(f"{self.path.name}.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(fd, "wb") as file:
            file.write(msgspec.json.encode(report))
        os.replace(fresh, self.path)

    def read(self) -> FolderReport | None:
        """Give what was written last; None when nothing can be read."""
        try:
            return msgspec.json.decode(self.path.read_bytes(), type=FolderReport)
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
            return None

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()
