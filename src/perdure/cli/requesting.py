"""`perdure signal`, `cancel`, `terminate`, `pause`, `resume` and `retry`: asking something of an execution.

Each returns once the request is durable; the process that runs the execution carries it out.
"""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.arguments import read_json
from perdure.cli.command import command
from perdure.cli.exits import Conflict
from perdure.cli.output import Output, note
from perdure.cli.owner import owner
from perdure.client import Client
from perdure.types import ExecutionInfo, Status


@command
async def signal(
    id: options.Id,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The signal.", show_default=False)],
    value: Annotated[str, typer.Argument(metavar="[JSON]", help="Its value; @FILE reads a file, - stdin.")] = "null",
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> None:
    """Send a signal to an execution. It waits there until it is received."""
    parsed = read_json(value, "the value")
    out = Output(json)
    async with options.open_client(db) as client:
        await client.execution(id).signal(name, parsed)
        await _taken(client, id, f"signal {name}", out)


@command
async def cancel(
    id: options.Id, reason: options.Reason = None, db: options.Db = options.DEFAULT, json: options.Json = False
) -> None:
    """Ask an execution to stop. Its code gets `CancelledError` and may clean up."""
    out = Output(json)
    async with options.open_client(db) as client:
        await client.execution(id).cancel(reason)
        await _taken(client, id, "cancel", out)
        if (await client.describe(id)).status is Status.BLOCKED:
            waits = "the cancel waits until code that fits its history is running"
            note(f"{id} is blocked: {waits}; `perdure terminate {id}` ends it now")


@command
async def terminate(
    id: options.Id, reason: options.Reason = None, db: options.Db = options.DEFAULT, json: options.Json = False
) -> None:
    """End an execution at once, without its cleanup. Its children are cancelled."""
    out = Output(json)
    async with options.open_client(db) as client:
        await client.execution(id).terminate(reason)
        await _taken(client, id, "terminate", out)


@command
async def pause(
    id: options.Id, reason: options.Reason = None, db: options.Db = options.DEFAULT, json: options.Json = False
) -> None:
    """Hold an execution: running activities end, nothing new starts."""
    out = Output(json)
    async with options.open_client(db) as client:
        info = await client.describe(id)
        if info.status is Status.BLOCKED:
            hint = "it does not run while it is blocked; `perdure show` says why"
            raise Conflict(f"execution {id} is blocked: {info.problem}", hint=hint)
        await client.execution(id).pause(reason)
        await _taken(client, id, "pause", out)


@command
async def resume(id: options.Id, db: options.Db = options.DEFAULT, json: options.Json = False) -> None:
    """Let a paused execution go on."""
    out = Output(json)
    async with options.open_client(db) as client:
        await client.execution(id).resume()
        await _taken(client, id, "resume", out)


@command
async def retry(id: options.Id, db: options.Db = options.DEFAULT, json: options.Json = False) -> None:
    """Open a failed execution again just before what made it fail, and try that anew."""
    out = Output(json)
    async with options.open_client(db) as client:
        _must_be_failed(await client.describe(id))
        await client.execution(id).retry()
        await _taken(client, id, "retry", out)


def _must_be_failed(info: ExecutionInfo) -> None:
    if info.status is not Status.FAILED:
        raise Conflict(f"execution {info.id} is {info.status}, not failed", hint="only a failed one can be retried")


async def _taken(client: Client, id: str, request: str, out: Output) -> None:
    """Say that the request is durable, and whether anyone is there to carry it out."""
    out.done(f"{request} of {id}: taken", {"id": id, "requested": request})
    if out.terminal and owner(client.path) is None:
        note("no worker is running on this database: it will be carried out when one is")
