"""`perdure status`: who runs a database, what is in it, and how far its replica follows."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from perdure.cli import options
from perdure.cli.command import command
from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.moments import brief, iso, relative
from perdure.cli.output import Output, counted
from perdure.cli.owner import owner
from perdure.cli.tenanting import tenants_status
from perdure.cli.working import is_bucket
from perdure.client import Client
from perdure.engine.replicator import ReplicationStatus
from perdure.types import Status

SILENT_S = 10.0
"""A runner that has told nothing for so long stands still."""
LATE_S = 180.0
"""The same for one that is known by its heartbeat in a bucket."""


class Running(msgspec.Struct):
    """Who runs the database. `pid` is that of another machine where the database is in a bucket."""

    holder: str
    pid: int | None = None
    host: str | None = None
    since: datetime | None = None


class Waiting(msgspec.Struct):
    """Work that is there to be done: executions to begin, requests, timers that are due. `oldest_at` is since when."""

    pending: int
    requests: int
    timers: int
    oldest_at: datetime | None = None


class Overview(msgspec.Struct):
    """What `--json` writes."""

    database: str
    runner: Running | None
    counts: dict[str, int]
    waiting: Waiting | None
    replication: ReplicationStatus | None
    told_at: datetime | None = None
    """When the runner told about the replication."""
    silent: bool = False
    """It should have told something since."""


@command
def status(
    metrics: Annotated[
        bool, typer.Option("--metrics", help="Write the replication in the text format of Prometheus.")
    ] = False,
    db_dir: options.DbDir = None,
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> int:
    """Tell who runs a database, how many executions it has, and how far its replica is behind.

    With --db s3://bucket/prefix it tells what the runner last said there, from any machine. With --db-dir it lists the
    tenants of a folder.

    In a pipe: name and value, with a tab between.
    """
    if metrics and json:
        raise UsageError("--metrics and --json exclude each other")
    options.one_of(db, db_dir)
    if db_dir is not None:
        if metrics:
            raise UsageError("--metrics is for one database", hint="name it with --db")
        return tenants_status(db_dir, Output(json))
    found = asyncio.run(_of_bucket(db) if is_bucket(db) else _of_file(db))
    out = Output(json)
    if metrics:
        from perdure.replication.report import metrics as text

        if found.replication is None:
            raise UsageError(f"{found.database} is not replicated now", hint="`perdure worker … --replicate URL`")
        typer.echo(text(found.replication, found.database), nl=False)
    elif json:
        out.object(found)
    else:
        for name, value in _lines(found):
            out.fact(name, value)
    return ExitCode.OK


async def _of_file(db: str) -> Overview:
    async with options.open_client(db) as client:
        counts = {status.value: count for status, count in (await client.counts()).items() if count}
        backlog = client.store.backlog(client.now(), client.now())
        oldest = None if backlog.oldest_at is None else datetime.fromtimestamp(backlog.oldest_at / 1e6, UTC)
        waiting = Waiting(backlog.pending, backlog.requests, backlog.overdue, oldest)
        found = Overview(str(client.path), _runner(client), counts, waiting, None)
        if found.runner is not None and found.runner.pid:
            from perdure.replication.report import ReportFile

            report = ReportFile(client.path).read(found.runner.pid)
            if report is not None:
                found.replication, found.told_at = report.status, report.at
                found.silent = (datetime.now(UTC) - report.at).total_seconds() > SILENT_S
        return found


def _runner(client: Client) -> Running | None:
    holds = owner(client.path)
    if holds is None:
        return None
    lock = Path(f"{client.path}-lock")
    since = datetime.fromtimestamp(lock.stat().st_mtime, UTC) if lock.exists() else None
    return Running(str(holds), holds.pid or None, holds.host or None, since)


async def _of_bucket(url: str) -> Overview:
    """Put together what lies beside the replica."""
    from perdure.replication import beacon, lease_object
    from perdure.replication.bucket import Bucket
    from perdure.replication.drill_report import read_report
    from perdure.replication.restore import NothingToRestore
    from perdure.replication.snapshots import Snapshots

    target = options.replica_target(url)
    bucket = Bucket.open(target)
    said, leased, drilled, snapshots = await asyncio.gather(
        bucket.get(beacon.KEY), bucket.get(lease_object.KEY), read_report(bucket), Snapshots(bucket).all()
    )
    if said is None:
        raise NothingToRestore(f"{target} holds no database")
    told = beacon.decode(said.data)
    lease = None if leased is None else lease_object.read_record(leased.data, str(target))
    age_s = (datetime.now(UTC) - told.heartbeat_at).total_seconds() if told.heartbeat_at else LATE_S
    replication = ReplicationStatus(
        url=str(target),
        epoch=told.epoch,
        holder=(lease.holder if lease is not None else told.holder) or "",
        lease=None if lease is None else "released" if lease.released else "held",
        lag_s=told.lag_s or 0.0,
        lag_commits=told.lag_commits or 0,
        lag_bytes=told.lag_bytes or 0,
        commits=0,
        replicated_at=told.replicated_at,
        wal_bytes=told.wal_bytes or 0,
        litestream="stopped" if told.holder is None else "running",
        restarts=told.restarts or 0,
        problem=told.last_error,
        snapshot_at=snapshots[-1].at if snapshots else None,
        drill_at=drilled.ended_at if drilled is not None else None,
        drill_ok=drilled is not None and drilled.ok,
    )
    since = lease.acquired_at if lease is not None and not lease.released else None
    runner = None if told.holder is None else Running(told.holder, since=since)
    silent = told.holder is not None and age_s > LATE_S
    return Overview(str(target), runner, told.counts, None, replication, told.heartbeat_at, silent)


def _lines(found: Overview) -> list[tuple[str, str]]:
    """Give what people read, a name and a value each."""
    now = datetime.now(UTC)
    lines = [("database", found.database), ("runner", _about_runner(found, now))]
    counts = [f"{found.counts[one.value]:,} {one.value}" for one in Status if found.counts.get(one.value)]
    lines.append(("executions", ", ".join(counts) or "none"))
    if found.waiting is not None:
        lines.append(("waiting", _about_waiting(found.waiting, now)))
    told = found.replication
    if told is None:
        return [*lines, ("replica", "none")]
    behind = f"{told.lag_s:.1f} s, {counted(told.lag_commits, 'commit')}, {counted(told.lag_bytes, 'byte')}"
    restarts = f", {counted(told.restarts, 'restart')}" if told.restarts else ""
    lines += [
        ("replica", told.url),
        ("epoch", str(told.epoch)),
        ("holder", told.holder + (f", lease {told.lease}" if told.lease else ", no lease")),
        ("behind", behind if told.lag_commits else "nothing: all that was committed is in the replica"),
        ("replicated", iso(told.replicated_at) or "no commit of this runner yet"),
        ("wal", counted(told.wal_bytes, "byte")),
        ("litestream", told.litestream + restarts),
        ("snapshot", iso(told.snapshot_at) or "none"),
        ("drill", _about_drill(told)),
        ("problem", told.problem or "none"),
    ]
    return lines + [(name, problem) for name, problem in told.chores.items()]


def _about_runner(found: Overview, now: datetime) -> str:
    if found.runner is None:
        return "none: start one with `perdure worker`"
    since = f", since {iso(found.runner.since)}" if found.runner.since else ""
    silent = f"; nothing was heard of it for {brief(now - found.told_at)}" if found.silent and found.told_at else ""
    return found.runner.holder + since + silent


def _about_waiting(waiting: Waiting, now: datetime) -> str:
    parts = [(waiting.pending, "execution"), (waiting.requests, "request"), (waiting.timers, "timer")]
    said = ", ".join(counted(count, noun) for count, noun in parts if count)
    oldest = f", the oldest {relative(waiting.oldest_at, now)}" if waiting.oldest_at else ""
    return said + oldest if said else "nothing"


def _about_drill(told: ReplicationStatus) -> str:
    if told.drill_at is None:
        return "none"
    return f"{iso(told.drill_at)}, {'nothing wrong' if told.drill_ok else 'SOMETHING IS WRONG'}"
