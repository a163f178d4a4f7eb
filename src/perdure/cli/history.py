"""`perdure history`: the events of one execution, as they are or as they come."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import typer

from perdure.cli import options
from perdure.cli.command import command
from perdure.cli.moments import brief, clock, iso, relative
from perdure.cli.output import Output, clean, recorded
from perdure.cli.standing import one_line
from perdure.client import Client
from perdure.engine.loading import AttemptNote
from perdure.types import HistoryEvent, Status, instant

LOOK_EVERY_S = 0.1
"""How often `--follow` asks SQLite whether anything was committed: a look at a counter, not at the tables."""
_STYLES = {"failed": "red", "blocked": "red", "cancel": "magenta", "terminated": "magenta", "completed": "green"}


@command
async def history(
    id: options.Id,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the execution has ended.")] = False,
    run: Annotated[int | None, typer.Option("--run", metavar="N", help="This run, not the newest.")] = None,
    after: Annotated[int, typer.Option("--after", metavar="SEQ", min=0, help="Only events after this one.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Do not shorten data on a terminal.")] = False,
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> None:
    """Print the history of an execution.

    In a pipe: seq, instant, kind, ref, name, data, with tabs between. `--follow` goes along when the execution
    continues as a new run. `--json` is the form in which `perdure verify` takes histories.
    """
    out = Output(json)
    async with options.open_client(db) as client:
        number = (await client.describe(id, run)).run
        begun: datetime | None = None
        async for of_run, event in _events(client, id, number, after, follow, pinned=run is not None):
            begun = begun or event.at
            if out.json:
                out.object(_line(id, of_run, event))
            else:
                _write(event, begun, out, full)
            if follow:
                out.flush()


async def _events(
    client: Client, id: str, run: int, after: int, follow: bool, pinned: bool
) -> AsyncIterator[tuple[int, HistoryEvent]]:
    """Give events, each with the run that it belongs to."""
    version = -1
    while True:
        info = await client.describe(id, run)  # before its events: what closed by now has all of them
        async for event in _page(client, id, run, after):
            after = event.seq
            yield run, event
        if not follow:
            return
        if info.status is Status.CONTINUED and not pinned:
            run, after = run + 1, 0
        elif info.status.closed:
            return
        else:
            version = await _change(client, version)


async def _page(client: Client, id: str, run: int, after: int) -> AsyncIterator[HistoryEvent]:
    async for event in client.execution(id).history(run=run, after=after):
        yield event


async def _change(client: Client, version: int) -> int:
    """Wait until something was committed since `version`."""
    while (now := client.store.changed()) == version:
        await asyncio.sleep(LOOK_EVERY_S)
    return now


def _line(id: str, run: int, event: HistoryEvent) -> dict[str, Any]:
    """Give one line of a history file. One without `data` has none, which is not the same as null."""
    line = {"id": id, "run": run, **msgspec.structs.asdict(event)}
    if event.data is None:
        del line["data"]
    else:
        line["data"] = recorded(event.data)
    return line


def _write(event: HistoryEvent, begun: datetime, out: Output, full: bool) -> None:
    if out.terminal:
        _print(event, begun, out, full)
    else:
        out.line(event.seq, iso(event.at), event.kind, event.ref, event.name, event.data)


def _print(event: HistoryEvent, begun: datetime, out: Output, full: bool) -> None:
    from rich.text import Text

    style = next((style for word, style in _STYLES.items() if word in event.kind), "")
    ref = f" of #{event.ref}" if event.ref is not None else ""
    text = Text.assemble(
        (f"{'#' + str(event.seq):>6} ", "bold"),
        (f"{clock(event.at, datetime.now(UTC))} +{brief(event.at - begun):<8} ", "dim"),
        (event.kind, style),
        (ref, "dim"),
        " ",
        (clean(event.name), "cyan"),
        " ",
        (clean(event.data if full else gist(event)), "dim"),
    )
    out.console.print(text, no_wrap=not full, overflow="fold" if full else "ellipsis", crop=not full)


def gist(event: HistoryEvent) -> str:
    """Give what a person wants to know of an event's data."""
    data = event.data or ""
    try:
        return _gist(event, data)
    except (msgspec.MsgspecError, RecursionError, ValueError):  # a file that somebody else wrote to
        return data


def _gist(event: HistoryEvent, data: str) -> str:
    match event.kind:
        case "failed" | "activity_failed" | "child_failed":
            return one_line(data)
        case "attempt_failed":
            note = msgspec.json.decode(data, type=AttemptNote)
            error = note.error_text
            again = "" if note.retry_at is None else f", again at {clock(instant(note.retry_at), event.at)}"
            return f"attempt {note.attempt}: {note.reason if error is None else one_line(error)}{again}"
        case "timer_started":
            due_at = instant(int(data or 0))
            return f"due {clock(due_at, event.at)}, {relative(due_at, event.at)}"
        case _:
            return data
