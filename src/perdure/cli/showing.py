"""`perdure show`: everything about one execution, and the tree under it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import msgspec
import typer

from perdure.cli import options
from perdure.cli.command import command
from perdure.cli.output import Output, recorded
from perdure.cli.picture import Child, Picture, write_lines, write_tree
from perdure.cli.standing import Standing
from perdure.client import Client
from perdure.store import Filter
from perdure.types import ExecutionInfo, HistoryEvent, instant

MOST_CHILDREN = 100_000


@command
async def show(
    id: options.Id,
    run: Annotated[int | None, typer.Option("--run", metavar="N", help="This run, not the newest.")] = None,
    depth: Annotated[int, typer.Option("--depth", min=0, help="Levels of children.")] = 3,
    children: Annotated[int, typer.Option("--children", min=1, help="Children per execution, newest.")] = 20,
    errors: Annotated[int, typer.Option("--errors", min=0, help="Errors, newest.")] = 10,
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> None:
    """Show one execution: its state, what it waits for, its errors and its children."""
    out = Output(json)
    async with options.open_client(db) as client:
        picture = await take(client, id, run, depth, children, errors)
    if out.json:
        out.object(picture)
    elif out.terminal:
        out.print(write_tree(picture, datetime.now(UTC)))
    else:
        write_lines(picture, out)


async def take(client: Client, id: str, run: int | None, depth: int, width: int, errors: int) -> Picture:
    """Read everything about one run. Raises `ExecutionNotFound`."""
    info = await client.describe(id, run)
    standing = Standing()
    async for event in client.execution(id).history(run=info.run):
        standing.feed(event)
    closing, failure = standing.closing, standing.failure
    picture = Picture(
        info=info,
        input=_raw(standing.input),
        result=_raw(closing.data if closing is not None and closing.kind == "completed" else None),
        failure=failure,
        reason=_reason(closing),
        pending=[] if info.status.closed else list(standing.open.values()),
        errors=standing.troubles[-errors:] if errors else [],
        errors_total=len(standing.troubles),
        activities_done=standing.done("activity"),
    )
    row = client.store.find(id)
    if row is not None and row.run == info.run:
        picture.state = await client.execution(id).state()
        if not info.status.closed:
            picture.deadline_at = None if row.deadline_at is None else instant(row.deadline_at)
            picture.requests = [f"{e.what} {e.name}" if e.name else e.what for e in client.store.parked(row.num)]
    picture.children = await _children(client, info, depth, width)
    picture.children_total = standing.done("child") + len(standing.opened("child"))
    return picture


async def _children(
    client: Client, parent: ExecutionInfo, depth: int, width: int, above: frozenset[str] = frozenset()
) -> list[Child]:
    """Read children and theirs. In a damaged file one may stand among its own: it is not followed again."""
    if depth == 0 or parent.id in above:
        return []
    found = await client.list(Filter(parent_id=parent.id, limit=min(width, MOST_CHILDREN) + 1))
    above |= {parent.id}
    children = [Child(info, await _children(client, info, depth - 1, width, above)) for info in reversed(found[:width])]
    if len(found) > width:
        children.insert(0, Child(None))
    return children


def _raw(data: str | None) -> msgspec.Raw | None:
    return None if data is None else recorded(data)


def _reason(closing: HistoryEvent | None) -> str | None:
    if closing is None or closing.kind not in ("cancelled", "terminated"):
        return None
    try:
        value = closing.value()
    except (msgspec.MsgspecError, RecursionError):
        return closing.data
    return value if isinstance(value, str) else None
