"""`perdure restore`: a database out of the bucket."""

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
from perdure.cli.moments import iso, moment
from perdure.cli.output import Output, complain_about, counted, note


class Restoration(msgspec.Struct):
    """What `--json` writes."""

    path: str
    epoch: int
    standing: str
    size_bytes: int
    executions: int
    newest_at: datetime | None
    passed_over: list[str]
    snapshot_at: datetime | None = None
    """The instant that it is from, where it is a snapshot."""


@command
def restore(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as s3://bucket/prefix/shop.", show_default=False)],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="By default NAME.db, after the URL's last part."),
    ] = None,
    at: Annotated[
        str | None, typer.Option("--at", metavar="TIME", help="As it was at an instant, such as 2026-11-23T14:00:00Z.")
    ] = None,
    epoch: Annotated[int | None, typer.Option("--epoch", min=1, help="What one runner streamed.")] = None,
    snapshot: Annotated[
        str | None, typer.Option("--snapshot", metavar="latest|NAME", help="A copy that was made without Litestream.")
    ] = None,
    json: options.Json = False,
) -> int:
    """Restore a database from its replica, check it, and put it in place.

    Never writes over a file. When the newest copy is damaged the next best one is taken, and what it may miss is said.
    """
    from perdure.replication.restore import InTheWay, NothingToRestore  # only who replicates needs it
    from perdure.replication.restore import restore as fetch

    if sum(choice is not None for choice in (at, epoch, snapshot)) > 1:
        raise UsageError("--at, --epoch and --snapshot exclude each other", hint="each one says what to restore")
    target = options.replica_target(url)
    path = output or Path(f"{target.prefix.rpartition('/')[2] or 'perdure'}.db")
    out = Output(json)
    then = None if at is None else moment(at, datetime.now(UTC))
    try:
        done = asyncio.run(fetch(target, path, at=then, epoch=epoch, snapshot=snapshot, progress=note))
    except (InTheWay, NothingToRestore) as error:
        complain_about(error)
        return ExitCode.CONFLICT if isinstance(error, InTheWay) else ExitCode.NOT_FOUND
    found = Restoration(
        str(done.path), done.epoch, done.standing, done.size_bytes, done.executions, done.newest_at, done.passed_over,
        done.snapshot_at,
    )  # fmt: skip
    newest = "no events" if done.newest_at is None else f"newest event {iso(done.newest_at)}"
    what = f"{counted(done.executions, 'execution')}, {newest}, epoch {done.epoch} ({done.standing})"
    out.done(f"{done.path}: {what}", found)
    if done.snapshot_at is not None:
        note(f"this is the snapshot of {iso(done.snapshot_at)}: what came later is not in it")
    if done.passed_over:
        note("it may miss what the copies had that could not be restored: see above")
    return ExitCode.OK
