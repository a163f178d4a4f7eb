"""`perdure doctor`: is the file whole, does work get done, and by whom."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import msgspec
import typer

from perdure.cli import options
from perdure.cli.command import command
from perdure.cli.exits import ExitCode
from perdure.cli.moments import brief
from perdure.cli.output import Output, complain, counted
from perdure.cli.owner import Owner, owner
from perdure.client import Client
from perdure.errors import StoreError
from perdure.store import Backlog, Filter
from perdure.types import Status

LATE_S = 60
"""How long work may wait for a runner that lives."""
BACKOFF_S = 30
"""A longer wait for a next attempt is worth a note."""
FREE_BYTES = 100 * 1024 * 1024
LARGE_WAL_BYTES = 256 * 1024 * 1024
SHOWN = 20


class Verdict(StrEnum):
    OK = "ok"
    NOTE = "note"
    PROBLEM = "problem"


class Finding(msgspec.Struct):
    check: str
    verdict: Verdict
    detail: str


@command
async def doctor(
    quick: Annotated[
        bool, typer.Option("--quick", help="Leave out what reads every history, for a large file.")
    ] = False,
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> int:
    """Check a database: the file, its histories, stuck work, who runs it.

    The exit code is 1 when there is a problem; notes are worth knowing and no problem. May run beside a worker.
    """
    out = Output(json)
    worst = Verdict.OK
    async with options.open_client(db) as client:
        async for finding in examine(client, quick):
            _write(finding, out)
            if finding.verdict is Verdict.PROBLEM:
                worst = Verdict.PROBLEM
    if worst is Verdict.PROBLEM:
        complain(f"something is wrong with {client.path}", "see the lines that say problem")
        return ExitCode.FAILED
    return ExitCode.OK


async def examine(client: Client, quick: bool) -> AsyncIterator[Finding]:
    """Look at everything, the file first: what is said about the rest holds only if that is whole."""
    yield Finding("database", Verdict.OK, str(client.path))
    try:
        for check, ok, detail in client.store.check(quick):
            yield Finding(check, Verdict.OK if ok else Verdict.PROBLEM, detail)
        runner = owner(client.path)
        for finding in (*_disk(client.path), _runner(runner), await _counts(client)):
            yield finding
        async for finding in _blocked(client):
            yield finding
        for finding in _backlog(client, runner):
            yield finding
    except StoreError as error:
        yield Finding("reading", Verdict.PROBLEM, Exception.__str__(error))


def _disk(path: Path) -> Iterator[Finding]:
    wal = path.with_name(path.name + "-wal")
    size = wal.stat().st_size if wal.exists() else 0
    large = size > LARGE_WAL_BYTES
    detail = f"{size:,} bytes" + (
        ", large: a reader with a long transaction may keep it from shrinking" if large else ""
    )
    yield Finding("wal", Verdict.NOTE if large else Verdict.OK, detail)
    free = shutil.disk_usage(path.parent).free
    yield Finding("disk", Verdict.OK if free >= FREE_BYTES else Verdict.PROBLEM, f"{free:,} bytes free")


def _runner(runner: Owner | None) -> Finding:
    if runner is None:
        return Finding("runner", Verdict.NOTE, "no process runs this database; start one with `perdure worker`")
    return Finding("runner", Verdict.OK, str(runner))


async def _counts(client: Client) -> Finding:
    counts = await client.counts()
    detail = ", ".join(f"{counts[status]:,} {status}" for status in Status if counts.get(status))
    return Finding("executions", Verdict.OK, detail or "none")


async def _blocked(client: Client) -> AsyncIterator[Finding]:
    found = await client.list(Filter(status=(Status.BLOCKED,), limit=SHOWN + 1))
    for info in found[:SHOWN]:
        what = f"{info.workflow} {info.id}" + (f" run {info.run}" if info.run > 1 else "")
        yield Finding("blocked", Verdict.PROBLEM, f"{what}: {info.problem}")
    if len(found) > SHOWN:
        yield Finding("blocked", Verdict.PROBLEM, "… and more: `perdure list --status blocked`")
    if not found:
        yield Finding("blocked", Verdict.OK, "no execution is set aside")


def _backlog(client: Client, runner: Owner | None) -> Iterator[Finding]:
    now = client.now()
    backlog = client.store.backlog(now, now + BACKOFF_S * 1_000_000)
    yield _due(backlog, now, runner)
    for item in backlog.backoffs:
        run = f" run {item.run}" if item.run > 1 else ""
        wait = brief((item.due_at - now) / 1e6)
        yield Finding(
            "backoff", Verdict.NOTE, f"{item.id}{run}: {item.activity} (#{item.seq}) is tried again in {wait}"
        )
    if backlog.outside:
        who = counted(backlog.outside, "execution")
        yield Finding(
            "waiting", Verdict.NOTE, f"{who} without a timer, woken only by a signal or a completion from outside"
        )


def _due(backlog: Backlog, now: int, runner: Owner | None) -> Finding:
    """Say whether work waits that somebody should be doing."""
    kinds = {"to begin": backlog.pending, "requests": backlog.requests, "due timers": backlog.overdue}
    if runner is None:
        kinds["running"] = backlog.running
    detail = ", ".join(f"{count:,} {name}" for name, count in kinds.items() if count)
    if not detail:
        return Finding("backlog", Verdict.OK, "nothing is overdue")
    if backlog.oldest_at is not None:
        late_s = (now - backlog.oldest_at) / 1e6
        detail += f", the oldest since {brief(late_s)}"
        if runner is not None and late_s < LATE_S:
            return Finding("backlog", Verdict.OK, detail)
    why = "no process runs this database" if runner is None else "the runner does not take it: see its log"
    return Finding("backlog", Verdict.PROBLEM, f"{detail}; {why}")


def _write(finding: Finding, out: Output) -> None:
    if out.json:
        out.object(finding)
    else:
        out.finding(finding.check, finding.verdict, finding.detail)
