"""A drill: restore the replica for no other reason than to see that it can be done, and that it gives what there was.

A file that passes every check of itself may still be old: that is how a replica fails without a word. So a drill
restores twice, to a temporary place:

* exactly the transaction of the newest record (see `records.py`), and compares a digest of each table with what the
  runner had counted in its own file;
* the newest state, as `perdure restore` would, and checks it as a whole: that the file is sound, that the histories
  have no gaps and everything else follows from them, that no event is missing or different that the recorded state had,
  and, with the code given, that a sample of histories replays.

It also asks whether the runner was heard of lately: a replica that nobody writes to any more is correct and useless.
A runner that stopped in order may have done so before its first record; then the first part is left out, and said so.
Nothing is written to the bucket.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from perdure.errors import PerdureError, StoreError
from perdure.replication import beacon, litestream
from perdure.replication.bucket import Bucket
from perdure.replication.drill_report import Check, DrillReport, Verdict
from perdure.replication.epochs import Current, Epochs, path_of
from perdure.replication.litestream import LitestreamFailed
from perdure.replication.records import Record, Records
from perdure.replication.restore import RESTORE_S, restore
from perdure.replication.target import Target
from perdure.store.sqlite.moment import Moment, lost

if TYPE_CHECKING:
    from perdure.codec.payload import Codec
    from perdure.workflow import Workflow

SAMPLE = 100
SHOWN = 5
SILENT_S = 3 * beacon.HEARTBEAT_S
"""A runner that says nothing for so long is gone, or cannot reach the bucket."""
_LTX = re.compile(r"(?:ltx/)?[0-9a-f]{1,4}/[0-9a-f]{16}-([0-9a-f]{16})\.ltx", re.ASCII)


async def drill(
    target: Target,
    *,
    code: Sequence[Workflow[..., object, object] | ModuleType] = (),
    sample: int = SAMPLE,
    codec: Codec | None = None,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> DrillReport:
    """Restore to a temporary place in `folder` and report; see the module. `code` are the workflows whose newest
    `sample` histories are replayed. Raises `BucketError` when the bucket cannot be read at all."""
    began_at = datetime.now(UTC)
    with tempfile.TemporaryDirectory(prefix="perdure-drill-", dir=folder) as place:
        run = _Drill(target, Bucket.open(target), Path(place), codec, progress)
        await run.all(code, sample)
    ok = all(one.verdict is not Verdict.PROBLEM for one in run.checks)
    return DrillReport(
        url=str(target), ok=ok, began_at=began_at, ended_at=datetime.now(UTC), epoch=run.epoch, checks=run.checks
    )


@dataclass(slots=True)
class _Drill:
    """One drill under way. `recorded` and `newest` are the two restored files, once they are there."""

    target: Target
    bucket: Bucket
    place: Path
    codec: Codec | None
    progress: Callable[[str], None]
    checks: list[Check] = field(default_factory=list)
    epoch: int = 0
    stopped: bool = False
    """Whether the runner of this epoch stopped in order."""
    recorded: Path | None = None
    newest: Path | None = None

    def say(self, check: str, good: bool | None, detail: str) -> None:
        """Add a check; `None` is a note."""
        verdict = Verdict.NOTE if good is None else Verdict.OK if good else Verdict.PROBLEM
        self.checks.append(Check(check, verdict, detail))

    async def all(self, code: Sequence[Workflow[..., object, object] | ModuleType], sample: int) -> None:
        current = await Epochs(self.bucket).current()
        if current is None:
            self.say("epoch", False, f"{self.target} holds no database, or it was not complete yet")
            return
        self.epoch = current.epoch
        await self.look_at_runner(current)
        await self.restore_recorded()
        await self.restore_newest()
        if self.newest is not None:
            await asyncio.to_thread(self.examine, code, sample)

    async def look_at_runner(self, current: Current) -> None:
        found = await self.bucket.get(beacon.KEY)
        if found is None:
            self.say("runner", False, "there is no perdure.json: nobody tells how it is doing")
            return
        told = beacon.decode(found.data)
        if told.holder is None:
            self.stopped = told.epoch == current.epoch
            self.say("runner", True, f"stopped in order, epoch {current.epoch}")
            return
        age_s = (datetime.now(UTC) - (told.heartbeat_at or current.committed_at)).total_seconds()
        what = f"{told.holder}, epoch {told.epoch}, heard of {age_s:.0f} s ago"
        if told.last_error:
            self.say("runner", False, f"{what}: {told.last_error}")
        else:
            self.say("runner", age_s < SILENT_S, what)

    # --- the recorded state -----------------------------------------------------------------------------------------

    async def restore_recorded(self) -> None:
        record = await Records(self.bucket).newest(self.epoch)
        if record is None:
            hint = (
                "its runner stopped before it made one" if self.stopped else "a worker makes one soon after it starts"
            )
            good = None if self.stopped else False
            self.say("content", good, f"there is no record of epoch {self.epoch} to compare with; {hint}")
            return
        self.progress(f"fetching transaction {record.txid} of epoch {record.epoch}, recorded {record.at:%F %T}Z")
        path = self.place / "recorded.db"
        target = self.target.child(record.epoch)
        arguments = ["restore", "-o", str(path), "-txid", f"{record.txid:016x}", target.litestream_url()]
        try:
            await asyncio.to_thread(litestream.run, arguments, target.credentials(), RESTORE_S)
        except LitestreamFailed as error:
            await self.explain(record, error)
            return
        self.recorded = path
        await asyncio.to_thread(self.compare, record, path)

    async def explain(self, record: Record, error: LitestreamFailed) -> None:
        """Tell a transaction that was merged with later ones from one that is missing."""
        skip = len(path_of(record.epoch)) + 1
        keys = [entry.key[skip:] for entry in await self.bucket.entries(path_of(record.epoch))]
        highest = max((int(match[1], 16) for key in keys if (match := _LTX.fullmatch(key))), default=0)
        if highest <= record.txid:
            self.say("content", False, f"transaction {record.txid} of {record.at:%F %T}Z cannot be restored: {error}")
            return
        why = "was merged with later ones by now, so its tables cannot be compared: drill again within five minutes"
        self.say("content", None, f"transaction {record.txid} of {record.at:%F %T}Z {why} of a record")

    def compare(self, record: Record, path: Path) -> None:
        try:
            with Moment(path) as moment:
                found = moment.digests()
        except StoreError as error:
            self.say("content", False, f"transaction {record.txid}: {Exception.__str__(error)}")
            return
        wrong = [
            f"{name} ({found[name].rows if name in found else 'no'} rows, recorded {told.rows})"
            for name, told in record.tables.items()
            if found.get(name) != told
        ] + [f"{name} (not recorded)" for name in found if name not in record.tables]
        rows = sum(told.rows for told in record.tables.values())
        as_of = f"as of {record.at:%F %T}Z, transaction {record.txid}"
        if wrong:
            self.say("content", False, f"not what the runner recorded {as_of}: {', '.join(wrong[:SHOWN])}")
        else:
            self.say("content", True, f"{len(found)} tables, {rows:,} rows {as_of} are as the runner recorded them")

    # --- the newest state -------------------------------------------------------------------------------------------

    async def restore_newest(self) -> None:
        began = time.monotonic()
        path = self.place / "newest.db"
        try:
            done = await restore(self.target, path, progress=self.progress)
            if done.snapshot_at is not None:
                done.passed_over.append(f"only the snapshot of {done.snapshot_at:%F %T}Z could be restored")
        except PerdureError as error:
            hint = f" ({error.hint})" if error.hint else ""
            self.say("restore", False, f"{Exception.__str__(error)}{hint}")
            return
        self.newest = path
        newest = "no events" if done.newest_at is None else f"newest event {done.newest_at:%F %T}Z"
        what = f"{done.size_bytes:,} bytes, {done.executions:,} executions, {newest}, {time.monotonic() - began:.1f} s"
        self.say("restore", not done.passed_over, "; ".join([what, *done.passed_over]))

    def examine(self, code: Sequence[Workflow[..., object, object] | ModuleType], sample: int) -> None:
        """Check the newest state: by itself, against the recorded one, and against the code."""
        from perdure.testing.audit.audit import audit  # only a drill needs it

        assert self.newest is not None
        self.progress("checking its content")
        try:
            wrong = [str(violation) for violation in audit(self.newest, codec=self.codec)]
        except StoreError as error:
            self.say("histories", None, f"not checked: {Exception.__str__(error)}")
        else:
            self.say("histories", not wrong, "; ".join(wrong[:SHOWN]) or "whole, and everything else follows from them")
        if self.recorded is not None:
            self.compare_events(self.recorded, self.newest)
        if code:
            self.replay(code, sample)

    def compare_events(self, recorded: Path, newest: Path) -> None:
        try:
            events, deleted = lost(recorded, newest)
        except StoreError as error:
            self.say("events", False, Exception.__str__(error))
            return
        said = f"; {deleted:,} executions were deleted since" if deleted else ""
        what = f"{events:,} events are missing or different" if events else "all events that were recorded are there"
        self.say("events", not events, what + said)

    def replay(self, code: Sequence[Workflow[..., object, object] | ModuleType], sample: int) -> None:
        from perdure.testing.replaying import check_replay

        assert self.newest is not None
        self.progress(f"replaying up to {sample} histories")
        try:
            report = check_replay(self.newest, code, limit=sample, codec=self.codec)
        except StoreError as error:
            self.say("replay", None, f"not checked: {Exception.__str__(error)}")
            return
        wrong = [f"{one.id}: {one.message.splitlines()[0]}" for one in report.mismatches]
        detail = "; ".join(wrong[:SHOWN]) or f"{report.checked:,} histories fit the code"
        self.say("replay", report.ok, detail)
