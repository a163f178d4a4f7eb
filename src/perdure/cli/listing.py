"""`perdure list`."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli import options
from perdure.cli.command import command
from perdure.cli.exits import UsageError
from perdure.cli.moments import brief, iso, moment, relative
from perdure.cli.output import STYLES, Output, clean, note, styled
from perdure.client import Client
from perdure.store import Filter
from perdure.types import ExecutionInfo, Status

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

LOOK_EVERY_S = 0.25
GAP = 2
ERROR = "error or problem"
ERROR_WIDEST = 60
ERROR_NARROWEST = 8
GIVE_WAY = ("events", "took", ERROR, "created", "workflow")
"""What is left out on a narrow terminal, in this order, once the error is as short as it may be."""


@command
async def list_executions(
    workflow: Annotated[str | None, typer.Option("--workflow", "-w", metavar="NAME", help="Of this workflow.")] = None,
    status: Annotated[list[Status] | None, typer.Option("--status", "-s", help="In this status; repeatable.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="WHEN", help="Created at or after: 2h ago as `2h`, or ISO 8601.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", "--older", metavar="WHEN", help="Created before; `--older 7d` reads well.")
    ] = None,
    prefix: Annotated[str | None, typer.Option("--prefix", metavar="TEXT", help="Ids that begin so.")] = None,
    parent: Annotated[str | None, typer.Option("--parent", metavar="ID", help="Children of this one.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, max=100_000, help="At most so many.")] = 50,
    after: Annotated[
        str | None,
        typer.Option("--after", metavar="ID[#RUN]", help="The next page: what comes after this one in the list."),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Keep the list on the terminal up to date.")] = False,
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> None:
    """List executions, newest first.

    In a pipe: id, run, workflow, status, created, ended, error or problem, with tabs between.
    """
    out = Output(json)
    now = datetime.now(UTC)
    async with options.open_client(db) as client:
        chosen = Filter(
            workflow=workflow,
            status=tuple(status or ()),
            id_prefix=prefix,
            created_after=None if since is None else moment(since, now),
            created_before=None if until is None else moment(until, now),
            parent_id=parent,
            after=None if after is None else await _cursor(client, after),
            limit=limit,
        )
        if watch:
            await _watch(client, chosen, out)
        else:
            _write(await client.list(chosen), out, limit)


async def _cursor(client: Client, text: str) -> tuple[str, int]:
    """Find the execution that a page ended with. Raises `ExecutionNotFound`."""
    id, _, run = text.rpartition("#")
    if id and run.isdecimal():
        return id, (await client.describe(id, int(run))).run
    return text, (await client.describe(text)).run


def _write(found: Sequence[ExecutionInfo], out: Output, limit: int) -> None:
    if out.terminal:
        out.console.print(_shown(found, out), crop=False)
        if len(found) == limit:
            note(f"more: --after {found[-1].id}" + (f"#{found[-1].run}" if found[-1].run > 1 else ""))
        return
    for info in found:
        if out.json:
            out.object(info)
        else:
            out.line(*plain(info))


def plain(info: ExecutionInfo) -> tuple[object, ...]:
    what = (info.error or info.problem or "").partition("\n")[0]
    return (
        info.id, info.run, info.workflow, info.status, iso(info.created_at), iso(info.ended_at), what,
    )  # fmt: skip


def _shown(found: Sequence[ExecutionInfo], out: Output) -> Table | Text:
    return table(found, datetime.now(UTC), out.console.width) if found else styled("no executions", "dim")


def table(found: Sequence[ExecutionInfo], now: datetime, width: int) -> Table:
    """Lay the list out for a terminal. Ids are there to be copied: they are never shortened or folded."""
    from rich.table import Table

    rows = [_cells(info, now) for info in found]
    widths = _widths(rows, width)
    grid = Table(
        box=None, pad_edge=False, header_style="bold dim", padding=(0, GAP, 0, 0), width=_total(widths)
    )  # fmt: skip
    for name, columns in widths.items():
        right = name in ("took", "events")
        grid.add_column(name, width=columns, no_wrap=True, overflow="ellipsis", justify="right" if right else "left")
    for row in rows:
        grid.add_row(*(row[name] for name in widths))
    return grid


def _cells(info: ExecutionInfo, now: datetime) -> dict[str, Text]:
    cells = {
        "id": (info.id if info.run == 1 else f"{info.id}#{info.run}", "bold"),
        "workflow": (info.workflow, ""),
        "status": (info.status, STYLES[info.status]),
        "created": (relative(info.created_at, now), ""),
        "took": (brief((info.ended_at or now) - info.created_at), ""),
        "events": (f"{info.events:,}", ""),
        ERROR: ((info.error or info.problem or "").partition("\n")[0], "red"),
    }
    return {name: styled(clean(text), style) for name, (text, style) in cells.items()}


def _widths(rows: Sequence[dict[str, Text]], width: int) -> dict[str, int]:
    """Give the columns that there is room for: the error gives way first, then what matters least."""
    widths = {name: max(len(name), *(row[name].cell_len for row in rows)) for name in rows[0]}
    widths[ERROR] = min(widths[ERROR], ERROR_WIDEST)
    for name in GIVE_WAY:
        excess = _total(widths) - width
        if excess > 0 and ERROR in widths:
            excess -= min(excess, widths[ERROR] - min(widths[ERROR], ERROR_NARROWEST))
        if excess <= 0:
            break
        del widths[name]
    if ERROR in widths:
        widths[ERROR] -= max(_total(widths) - width, 0)
    return widths


def _total(widths: dict[str, int]) -> int:
    return sum(widths.values()) + GAP * (len(widths) - 1)


async def _watch(client: Client, chosen: Filter, out: Output) -> None:
    if not (out.terminal and sys.stdout.isatty()):
        raise UsageError("--watch needs a terminal", hint="in a pipe use --json and run it again when needed")
    from rich.live import Live

    with Live(console=out.console, auto_refresh=False, screen=False) as live:
        while True:
            found = await client.list(chosen)
            live.update(_shown(found, out), refresh=True)
            await asyncio.sleep(LOOK_EVERY_S if any(not info.status.closed for info in found) else 4 * LOOK_EVERY_S)
