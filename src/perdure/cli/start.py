"""`perdure start`: begin an execution that a worker runs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Annotated, Any

import typer

from perdure.cli import arguments, loading, options
from perdure.cli.command import command
from perdure.cli.moments import positive_seconds
from perdure.cli.output import Output, note
from perdure.cli.owner import owner
from perdure.client import Client, Execution
from perdure.store.target import database_path
from perdure.tenants.folder import in_folder_of_tenants
from perdure.types import Conflict


@command
def start(
    workflow: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="The workflow's name, or MODULE:WORKFLOW to check the input.", show_default=False
        ),
    ],
    input: options.Input = "{}",
    id: options.NewId = None,
    on_conflict: Annotated[Conflict, typer.Option("--on-conflict", help="When the id is taken.")] = Conflict.JOIN,
    time_limit: options.TimeLimit = None,
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> None:
    """Start an execution for a worker to run, and print its id.

    By its bare name the input is checked only where the workflow's code runs. In a folder of tenants, as `worker
    --db-dir` looks after, a database that is not there yet is made.
    """
    given: dict[str, Any] = {"id": id, "on_conflict": on_conflict, "timeout_s": positive_seconds(time_limit)}
    if ":" in workflow or workflow.endswith(".py"):
        _, found = loading.load_workflow(workflow)
        args, kwargs = arguments.bind(found, input)
        asyncio.run(
            _start(
                db,
                Output(json),
                found.id if id is None else id,
                lambda client: client.start(found, *args, **kwargs, **given),
            )
        )
    else:
        named = arguments.named(input)
        asyncio.run(_start(db, Output(json), id, lambda client: client.start_by_name(workflow, named, **given)))


async def _start(
    db: str, out: Output, id: str | None, begin: Callable[[Client], Coroutine[Any, Any, Execution[Any]]]
) -> None:
    async with options.open_client(db, create=in_folder_of_tenants(database_path(db))) as client:
        before = None if id is None else client.store.find(id)
        execution = await begin(client)
        if before is not None and before.status.closed and (await execution.info()).run == before.run:
            note(f"{execution.id} exists already: {before.status}")
        if out.json:
            out.object(await execution.info())
        else:
            out.line(execution.id)
        if out.terminal and owner(client.path) is None and not in_folder_of_tenants(client.path):
            note("no worker is running on this database: it begins when one is")
