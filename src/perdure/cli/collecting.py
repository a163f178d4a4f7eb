"""`perdure gc`: deleting closed executions."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli import options
from perdure.cli.command import command
from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.moments import seconds
from perdure.cli.output import Output, counted, error_console, note
from perdure.types import Status

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.progress import Progress


@command
async def gc(
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="DURATION", help="Ended longer ago than this, such as 30d.")
    ] = None,
    keep: Annotated[int | None, typer.Option("--keep", metavar="N", min=0, help="All but the newest N.")] = None,
    status: Annotated[
        list[Status] | None, typer.Option("--status", "-s", help="Only in this closed status; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> int:
    """Delete closed executions and give the room back to the file system.

    What is given must hold together: `--older-than 30d --keep 1000` deletes what is older than that and not among the
    newest. Children of an open execution are kept. In a pipe the count is printed.
    """
    chosen = tuple(status or ())
    _check(older_than, keep, chosen)
    older_than_s = None if older_than is None else seconds(older_than)
    out = Output(json)
    async with options.open_client(db) as client:
        found = await client.gc(older_than_s=older_than_s, keep=keep, status=chosen, dry_run=True)
        if dry_run or not found:
            _tell(out, "would delete" if dry_run else "deleted", found, None)
            return ExitCode.OK
        if not yes and not _confirmed(found):
            return ExitCode.FAILED
        before = _size(client.path)
        with Deleting(found) as deleting:
            deleted = await client.gc(older_than_s=older_than_s, keep=keep, status=chosen, progress=deleting.advance)
        _tell(out, "deleted", deleted, max(before - _size(client.path), 0))
        return ExitCode.OK


def _check(older_than: str | None, keep: int | None, status: tuple[Status, ...]) -> None:
    if older_than is None and keep is None and not status:
        raise UsageError("say what to delete", hint="for example --older-than 30d, --keep 1000 or --status completed")
    for given in status:
        if not given.closed:
            raise UsageError(f"executions that are {given} are open and never deleted", hint="end them first")


def _confirmed(found: int) -> bool:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            f"{counted(found, 'execution')} would be deleted", hint="add --yes, or --dry-run to only count"
        )
    return typer.confirm(f"Delete {counted(found, 'execution')}?", err=True)


def _tell(out: Output, what: str, count: int, freed: int | None) -> None:
    if out.json:
        out.object({what.replace(" ", "_"): count, "freed_bytes": freed})
    elif out.terminal:
        note(f"{what} {counted(count, 'execution')}" + (f", {freed:,} bytes freed" if freed is not None else ""))
    else:
        out.line(count)


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, path.with_name(path.name + "-wal")) if file.exists())


class Deleting:
    """A progress bar on a terminal's stderr."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.advance: Callable[[int], None] | None = None
        self._bar: Progress | None = None

    def __enter__(self) -> Deleting:
        if sys.stderr.isatty():
            from rich.progress import Progress

            bar = self._bar = Progress(console=error_console(), transient=True)
            task = bar.add_task("deleting", total=self.total)
            self.advance = lambda count: bar.advance(task, count)
            bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
