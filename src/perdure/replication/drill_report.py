"""What a drill found, and where the last one of a database is told: `<prefix>/drill.json`."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec

from perdure.replication.bucket import Bucket

KEY = "drill.json"


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Worth knowing: it was not checked, and why."""
    PROBLEM = "problem"


class Check(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    check: str
    verdict: Verdict
    detail: str


class DrillReport(msgspec.Struct, frozen=True, kw_only=True):
    """The result of a drill. Instants are UTC."""

    url: str
    ok: bool
    """Nothing is wrong: no check is a problem."""
    began_at: datetime
    ended_at: datetime
    epoch: int
    checks: list[Check]

    @property
    def problems(self) -> list[Check]:
        return [one for one in self.checks if one.verdict is Verdict.PROBLEM]

    def __str__(self) -> str:
        """Give the problems in a line, or what was checked."""
        if self.problems:
            return "; ".join(f"{one.check}: {one.detail}" for one in self.problems)
        return ", ".join(one.check for one in self.checks if one.verdict is Verdict.OK)


async def read_report(bucket: Bucket) -> DrillReport | None:
    """Give the last report of the worker's own drills; None when there is none that can be read. Raises
    `BucketError`."""
    found = await bucket.get(KEY)
    try:
        return None if found is None else msgspec.json.decode(found.data, type=DrillReport)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
