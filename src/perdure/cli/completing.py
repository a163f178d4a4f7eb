"""`perdure complete` and `fail`: ending an activity that waits for the outside world."""

from __future__ import annotations

from typing import Annotated

import typer

from perdure.cli import options
from perdure.cli.arguments import read_json, read_stdin
from perdure.cli.command import command
from perdure.cli.exits import UsageError
from perdure.cli.output import Output

Token = Annotated[
    str,
    typer.Argument(metavar="TOKEN", help="The attempt's token, a secret; - reads it from stdin.", show_default=False),
]


@command
async def complete(
    token: Token,
    value: Annotated[str, typer.Argument(metavar="[JSON]", help="The result; @FILE reads a file.")] = "null",
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> None:
    """Complete an activity that was left open with `finish_later()`."""
    parsed = read_json(value, "the value")
    out = Output(json)
    async with options.open_client(db) as client:
        await client.complete(_read(token), parsed)
    out.done("completion taken", {"requested": "complete"})


@command
async def fail(
    token: Token,
    message: Annotated[str, typer.Argument(metavar="MESSAGE", help="What went wrong.", show_default=False)],
    type_name: Annotated[
        str, typer.Option("--type", metavar="MODULE:CLASS", help="The error's class, as the workflow catches it.")
    ] = "builtins:RuntimeError",
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> None:
    """Fail an activity that was left open with `finish_later()`. The workflow gets the error."""
    error = _error(type_name, message)
    out = Output(json)
    async with options.open_client(db) as client:
        await client.fail(_read(token), error)
    out.done("failure taken", {"requested": "fail"})


def _read(token: str) -> str:
    return read_stdin("the token", line=True).strip() if token == "-" else token


def _error(type_name: str, message: str) -> Exception:
    """Make an error that is recorded under a class which this process need not have."""
    module, colon, name = type_name.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise UsageError(f"{type_name!r} does not name a class", hint="write it like shop.errors:CardDeclined")
    made: type[Exception] = type(name, (Exception,), {"__module__": module, "__qualname__": name})
    return made(message)
