"""Many databases in a folder, on the command line: running them until told to stop, and telling how they are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.moments import brief, iso
from perdure.cli.output import Output, counted, note
from perdure.cli.owner import Owner, owner
from perdure.cli.stopping import Stop
from perdure.errors import PerdureError
from perdure.store.sqlite import SqliteStore
from perdure.tenants import Tenants
from perdure.tenants.folder import LOCK, path_of, scan
from perdure.tenants.report import FleetStatus, ReportFile
from perdure.types import Status, instant

if TYPE_CHECKING:
    from rich.console import Console

SUMMARY_EVERY_S = 60.0
SHOW_EVERY_S = 0.5


# --- running --------------------------------------------------------------------------------------------------------


async def work_on_tenants(tenants: Tenants, console: Console | None, grace: str, *, verbose: bool) -> int:
    """Run the tenants of a folder until Ctrl-C or SIGTERM; give the exit code."""
    if not verbose:  # a line for each tenant that opens would be all that is seen
        for name in ("perdure.engine", "perdure.replication"):
            logging.getLogger(name).setLevel(logging.WARNING)

    def said(name: str) -> None:
        note(f"{name}: stopping; running activities have {grace}; once more stops at once", console)

    async with Stop(said) as stop:
        stopping, entering = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(tenants.__aenter__())
        await asyncio.wait({stopping, entering}, return_when=asyncio.FIRST_COMPLETED)
        if not entering.done():
            entering.cancel()
            await asyncio.gather(entering, return_exceptions=True)
            stopping.cancel()
            return ExitCode.OK
        await entering
        note(f"{tenants.folder}: {_line(tenants)}", console)
        telling = asyncio.create_task(_show(tenants, console) if console is not None else _summarize(tenants))
        try:
            await stopping
        finally:
            telling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await telling
            complete = await tenants.close()
    place = "in the files and in the bucket" if tenants.replicate is not None else "in the files"
    if complete:
        note(f"stopped; everything that was acknowledged is {place}", console)
    else:
        note("stopped; everything that was acknowledged is in the files; not all of it is in the bucket", console)
    return ExitCode.OK


def _line(tenants: Tenants) -> str:
    report = tenants.report()
    parts = [counted(report.tenants, "tenant"), f"{len(report.open):,} open"]
    parts += [f"{len(report.away):,} to be fetched"] if report.away else []
    parts += [f"{len(report.problems):,} in trouble"] if report.problems else []
    return ", ".join(parts)


async def _summarize(tenants: Tenants) -> None:
    """Say now and then what happened, if something did."""
    told = 0
    while True:
        await asyncio.sleep(SUMMARY_EVERY_S)
        if tenants.doors.openings != told:
            note(f"{_line(tenants)}; opened {tenants.doors.openings - told:,} times in the last minute")
            told = tenants.doors.openings


async def _show(tenants: Tenants, console: Console) -> None:
    """Keep a status line below the log."""
    from rich.live import Live
    from rich.spinner import Spinner

    began = time.monotonic()
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        while True:
            live.update(Spinner("dots", f"up {brief(time.monotonic() - began)}  {_line(tenants)}"))
            await asyncio.sleep(SHOW_EVERY_S)


# --- telling --------------------------------------------------------------------------------------------------------


class TenantStatus(msgspec.Struct):
    """One tenant. `state` is `closed`, `opening`, `open`, `closing`, or `away`: in the bucket and not here yet."""

    name: str
    state: str = "closed"
    counts: dict[str, int] = {}
    due_at: datetime | None = None
    """When its next timer fires."""
    problem: str | None = None
    behind_s: float | None = None
    """How far its replica is behind, while it is open."""
    epoch: int | None = None
    """Under which it is, or was last, run on this machine."""
    in_bucket: bool | None = None
    """Whether all of it is in the bucket; None without a replica."""


class Folder(msgspec.Struct):
    """What `--json` writes. `problems` are by tenant."""

    folder: str
    runner: Owner | None
    tenants: list[TenantStatus]
    counts: dict[str, int]
    problems: dict[str, str]
    replication: FleetStatus | None


def tenants_status(folder: Path, out: Output) -> int:
    """List the tenants of a folder."""
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", hint="`perdure worker --db-dir` makes it")
    found = _look(folder.resolve())
    if out.json:
        out.object(found)
        return ExitCode.OK
    runner = "none: start one with `perdure worker --db-dir`" if found.runner is None else str(found.runner)
    out.fact("folder", found.folder)
    out.fact("runner", runner)
    out.fact("tenants", f"{len(found.tenants):,}, {sum(t.state == 'open' for t in found.tenants):,} open")
    out.fact("executions", _counts(found.counts) or "none")
    if found.replication is not None:
        told = found.replication
        restarts = f", {counted(told.restarts, 'restart')}" if told.restarts else ""
        out.fact("replica", told.url)
        out.fact("litestream", told.litestream + restarts)
    for tenant in found.tenants:
        out.line(tenant.name, tenant.state, _counts(tenant.counts) or "none", _replica(tenant), tenant.problem or "")
    return ExitCode.OK


def _look(folder: Path) -> Folder:
    told = ReportFile(folder).read()
    holder = owner(folder / LOCK)
    if told is not None and (holder is None or holder.pid != told.pid):
        told = None  # of one that is gone
    marks, strange = scan(folder)
    tenants = [_tenant(folder, name) for name in sorted(marks)]
    problems = dict.fromkeys(strange, "its name has characters that are not allowed")
    problems |= {tenant.name: tenant.problem for tenant in tenants if tenant.problem is not None}
    if told is not None:
        problems |= told.problems
        tenants += [TenantStatus(name, "away") for name in told.away if name not in marks]
        for tenant in tenants:
            tenant.state = told.open.get(tenant.name, tenant.state)
            tenant.problem = told.problems.get(tenant.name, tenant.problem)
    total: Counter[str] = Counter()
    for tenant in tenants:
        total.update(tenant.counts)
    return Folder(str(folder), holder, tenants, dict(total), problems, None if told is None else told.replication)


def _tenant(folder: Path, name: str) -> TenantStatus:
    path, found = path_of(folder, name), TenantStatus(name)
    try:
        store = SqliteStore(path, create=False)
        try:
            found.counts = {status.value: count for status, count in store.counts().items() if count}
            due_at = store.next_due()
            found.due_at = None if due_at is None else instant(due_at)
        finally:
            store.close()
    except (PerdureError, OSError) as error:
        found.problem = error.message if isinstance(error, PerdureError) else str(error)
    runner = owner(path)
    if runner is not None:
        found.state = "open"
    _replication(path, runner, found)
    return found


def _replication(path: Path, runner: Owner | None, found: TenantStatus) -> None:
    """Add what is noted beside the file, and what its runner says."""
    from perdure.tenants.place import read_any

    note = read_any(path)
    if note is None:
        return
    found.epoch, found.in_bucket = note.epoch, note.complete
    if runner is not None and runner.pid:
        from perdure.replication.report import ReportFile as Replication

        report = Replication(path).read(runner.pid)
        if report is not None:
            found.behind_s, found.in_bucket = report.status.lag_s, report.status.lag_commits == 0
            found.problem = found.problem or report.status.problem


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{counts[one.value]:,} {one.value}" for one in Status if counts.get(one.value))


def _replica(tenant: TenantStatus) -> str:
    if tenant.in_bucket is None:
        return f"due {iso(tenant.due_at)}" if tenant.due_at else ""
    if tenant.in_bucket:
        return f"epoch {tenant.epoch}, in the bucket"
    return f"epoch {tenant.epoch}, {tenant.behind_s or 0.0:.1f} s behind"
