"""Options and arguments that several commands share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli.command import KEYS
from perdure.cli.exits import UsageError
from perdure.cli.output import clean
from perdure.client import Client
from perdure.codec.encryption import AesGcmCodec
from perdure.store import Filter
from perdure.store.sqlite import SqliteStore
from perdure.store.target import database_path

if TYPE_CHECKING:
    from perdure.replication.target import Target

DATABASE = "PERDURE_DB"
DEFAULT = "perdure.db"


def complete_id(ctx: typer.Context, incomplete: str) -> list[str]:
    """Complete an execution id from the database, for the shell."""
    source = ctx.params.get("source") or (ctx.args[0] if ctx.args and "source" in _names(ctx) else None)
    target = ctx.params.get("db") or source or os.environ.get(DATABASE) or DEFAULT
    try:
        store = SqliteStore(database_path(target), create=False)
        try:
            found = store.list(Filter(id_prefix=incomplete or None, limit=50))
            return [id for id in dict.fromkeys(info.id for info in found) if id == clean(id)]  # a shell shows them
        finally:
            store.close()
    except Exception:  # nothing may be printed while a command line is being typed
        return []


def _names(ctx: typer.Context) -> set[str | None]:
    """Give the command's parameters: while an option waits for its value its arguments are not among `params`."""
    return {param.name for param in ctx.command.params}


Db = Annotated[str, typer.Option("--db", envvar=DATABASE, metavar="FILE", help="The database.")]
DbDir = Annotated[
    Path | None,
    typer.Option("--db-dir", metavar="FOLDER", help="A folder of databases, one for each tenant; instead of --db."),
]
Json = Annotated[bool, typer.Option("--json", help="Write JSON.")]
Id = Annotated[str, typer.Argument(metavar="ID", help="The execution.", autocompletion=complete_id, show_default=False)]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; kept in the history.")]
Input = Annotated[
    str,
    typer.Option(
        "--input",
        "-i",
        metavar="JSON",
        help="The arguments: an object (by name) or an array (by position); @FILE reads a file, - stdin.",
    ),
]
NewId = Annotated[
    str | None,
    typer.Option("--id", metavar="ID", help="The execution's id; the same id twice is the same execution."),
]
TimeLimit = Annotated[
    str | None, typer.Option("--time-limit", metavar="DURATION", help="End the execution when it takes longer.")
]


def one_of(db: str, folder: Path | None) -> None:
    """Raise `UsageError` when both a database and a folder were named."""
    if folder is not None and db not in (DEFAULT, os.environ.get(DATABASE)):
        raise UsageError("--db and --db-dir exclude each other", hint="--db names one file, --db-dir a folder of them")


def codec() -> AesGcmCodec | None:
    """Give the codec that the environment asks for."""
    return AesGcmCodec.from_environment(KEYS) if os.environ.get(KEYS) else None


def replica_target(url: str) -> Target:
    """Give the place that a URL names. Raises `UsageError`."""
    from perdure.replication.target import InvalidTarget, Target  # only who replicates needs it

    try:
        return Target.parse(url)
    except InvalidTarget as error:
        raise UsageError(error.message, hint=error.hint) from None


def open_client(db: str, *, create: bool = False) -> Client:
    return Client(db, codec=codec(), create=create)
