"""The commands of `perdure`, in the order of `--help`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

import perdure
from perdure.cli import (
    about,
    collecting,
    completing,
    doctor,
    drilling,
    history,
    listing,
    requesting,
    restoring,
    run,
    settings,
    showing,
    start,
    status,
    verifying,
    worker,
)
from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.output import complain_about

app = typer.Typer(
    name="perdure",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="The database is perdure.db unless --db or PERDURE_DB names another file; PERDURE_KEYS decrypts it. "
    "Options may also stand in perdure.toml. "
    "Exit codes: 0 done, 1 failed or something wrong found, 2 wrong use, 3 not found, 4 conflict or closed, "
    "5 the database cannot be used, 124 timed out, 130 interrupted.",
)


def _print_version(asked: bool) -> None:
    if asked:
        print("perdure", perdure.__version__)
        raise typer.Exit


@app.callback()
def perdure_command(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Durable workflows in one SQLite file: run them, watch them, look after them."""
    commands: dict[str, Any] = context.command.commands  # type: ignore[attr-defined] # it is a group
    try:
        context.default_map = settings.load({name: _options(one) for name, one in commands.items()})
    except UsageError as error:
        complain_about(error)
        raise typer.Exit(ExitCode.USAGE) from None


def _options(command: Any) -> dict[str, str]:
    """Give the options of a command as a file names them, with the names of their parameters."""
    options = [found for found in command.params if found.param_type_name == "option" and found.name != "help"]
    return {max(option.opts, key=len).lstrip("-"): option.name for option in options}


def _add(panel: str, name: str, fn: Callable[..., Any], *examples: str, variables: str | None = None) -> None:
    """Add a command; its examples end its help. With `variables` each of its options is also a variable of the
    environment, whose name begins like that."""
    lines = "\n".join(f"  $ {example}".replace("[", "\\[") for example in examples)
    paragraphs = (fn.__doc__ or "").split("\n\n")
    text = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)  # typer keeps the source's line ends
    app.command(
        name, help=text, rich_help_panel=panel, epilog=f"[bold]Examples[/bold]\n{lines}",
        context_settings={"auto_envvar_prefix": variables},
    )(fn)  # fmt: skip


RUN, LOOK, STEER, CARE = "Run", "Look", "Steer", "Look after"

_add(
    RUN, "run", run.run,
    """perdure run shop.py:fulfil --input '{"order": {"id": "42", "items": ["tea"]}}' --id order-42""",
    "perdure run shop.py:fulfil --input @order.json --timeout 10m --db shop.db | jq .",
)  # fmt: skip
_add(
    RUN, "worker", worker.worker,
    "perdure worker shop.py --db shop.db",
    "perdure worker shop.orders shop.stock --threads 32 --grace 1m --deployment 2026-07-01",
    "perdure worker shop.py --db shop.db --replicate s3://bucket/prefix/shop",
    "perdure worker shop.py --db s3://bucket/prefix/shop --durability replicated",
    "perdure worker shop.py --db-dir tenants --replicate s3://bucket/prefix --idle 30s",
    variables="PERDURE",
)  # fmt: skip
_add(
    RUN, "start", start.start,
    """perdure start fulfil --input '{"order": {"id": "42", "items": ["tea"]}}' --id order-42""",
    "perdure start shop.py:fulfil --input @order.json --on-conflict replace",
)  # fmt: skip
_add(
    LOOK, "list", listing.list_executions,
    "perdure list --status failed --since 2h",
    "perdure list --workflow fulfil --prefix order- --limit 20 --after order-100",
    "perdure list --json --limit 10000 | jq -r .id",
)  # fmt: skip
_add(
    LOOK, "status", status.status,
    "perdure status --db shop.db",
    "perdure status --db s3://bucket/prefix/shop --json | jq .replication.lag_s",
    "perdure status --db-dir tenants --json | jq .problems",
)  # fmt: skip
_add(LOOK, "show", showing.show, "perdure show order-42", "perdure show order-42 --depth 1 --json | jq .pending")
_add(
    LOOK, "history", history.history,
    "perdure history order-42 --follow",
    "perdure history order-42 --run 1 --json | jq 'select(.kind == \"attempt_failed\")'",
)  # fmt: skip
_add(
    STEER,
    "signal",
    requesting.signal,
    "perdure signal order-42 approved true",
    "perdure signal chat-1 message '\"hello\"'",
)
_add(STEER, "cancel", requesting.cancel, 'perdure cancel order-42 --reason "asked for by the customer"')
_add(STEER, "terminate", requesting.terminate, "perdure terminate order-42")
_add(STEER, "pause", requesting.pause, "perdure pause order-42 --reason maintenance")
_add(STEER, "resume", requesting.resume, "perdure resume order-42")
_add(
    STEER,
    "retry",
    requesting.retry,
    "perdure retry order-42",
    "perdure list -s failed | cut -f1 | xargs -n1 perdure retry",
)
_add(
    STEER, "complete", completing.complete,
    "perdure complete 17.5.1.q8Zk… true",
    "echo \"$TOKEN\" | perdure complete - '{\"approved_by\": \"ann\"}'",
)  # fmt: skip
_add(
    STEER, "fail", completing.fail,
    'perdure fail 17.5.1.q8Zk… "the bank said no"',
    'perdure fail 17.5.1.q8Zk… "declined" --type shop:CardDeclined',
)  # fmt: skip
_add(CARE, "doctor", doctor.doctor, "perdure doctor --db shop.db", "perdure doctor --quick --json || page-someone")
_add(
    CARE, "restore", restoring.restore,
    "perdure restore s3://bucket/prefix/shop",
    "perdure restore s3://bucket/prefix/shop -o yesterday.db --at 2026-11-22T18:00:00Z --json",
    "perdure restore s3://bucket/prefix/shop --snapshot latest",
)  # fmt: skip
_add(
    CARE, "drill", drilling.drill,
    "perdure drill s3://bucket/prefix/shop",
    "perdure drill s3://bucket/prefix/shop shop.py --sample 1000 --json || page-someone",
)  # fmt: skip
_add(
    CARE, "gc", collecting.gc,
    "perdure gc --older-than 30d --dry-run",
    "perdure gc --older-than 30d --keep 1000 --status completed --yes",
)  # fmt: skip
_add(
    CARE, "verify", verifying.verify,
    "perdure verify shop.db shop.py",
    "perdure verify shop.db shop.orders shop.stock --open --json | jq .mismatches",
    "perdure verify tests/histories shop.py --workflow fulfil",
)  # fmt: skip
_add(CARE, "demo", about.demo, "perdure demo", "perdure demo --keep /tmp/perdure-demo")
_add(CARE, "version", about.version, "perdure version")
