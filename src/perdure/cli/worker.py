"""`perdure worker`: a process that runs a module's workflows until it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
import time
from collections import Counter
from types import ModuleType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from perdure.cli import loading, logs, options
from perdure.cli.command import command
from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.moments import brief, seconds
from perdure.cli.output import STYLES, clean, counted, error_console, note
from perdure.cli.stopping import Stop, leave_if_stuck
from perdure.engine.engine import Engine
from perdure.store.sqlite.connection import Synchronous
from perdure.types import Status

if TYPE_CHECKING:
    from rich.console import Console

LOOK_EVERY_S = 0.5


@command
def worker(
    modules: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE_OR_MODULE...", help="Such as shop.py or shop.orders; all their workflows.", show_default=False
        ),
    ],
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="For running activities when told to stop.")
    ] = "10s",
    threads: Annotated[int | None, typer.Option("--threads", min=1, help="For `def` activities.")] = None,
    processes: Annotated[int | None, typer.Option("--processes", min=1, help="For process activities.")] = None,
    deployment: Annotated[
        str | None,
        typer.Option(
            "--deployment", envvar="PERDURE_DEPLOYMENT", metavar="NAME", help="Names this version of the code."
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse code that is not deterministic.")] = False,
    synchronous: Annotated[
        str,
        typer.Option("--synchronous", metavar="full|normal", help="`normal`: a power cut may lose the newest commits."),
    ] = "full",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    db: options.Db = options.DEFAULT,
) -> int:
    """Run the workflows of a module until Ctrl-C or SIGTERM.

    Creates the database if need be and resumes everything that was under way. While another process runs the database
    this one stands by and takes over when that is gone. The first Ctrl-C stops in order, the second at once.
    """
    if synchronous not in ("full", "normal"):
        raise UsageError(f"--synchronous is full or normal, not {synchronous}")
    mode: Synchronous = "normal" if synchronous == "normal" else "full"
    console = error_console() if sys.stderr.isatty() else None
    logs.configure(logging.DEBUG if verbose else logging.INFO, console)
    loaded = [_load(target) for target in modules]
    try:
        engine = Engine(
            db, loaded, codec=options.codec(), synchronous=mode, strict=strict, grace_s=seconds(grace),
            max_threads=threads, max_processes=processes, deployment=deployment,
        )  # fmt: skip
    except ValueError as error:  # two workflows of one name
        raise UsageError(str(error)) from None
    names = ", ".join(sorted(engine.registry.by_name))
    note(f"{engine.path}: {counted(len(engine.registry.by_name), 'workflow')}: {names}", console)
    asyncio.run(_work(engine, console, grace))
    leave_if_stuck(ExitCode.OK)
    return ExitCode.OK


def _load(target: str) -> ModuleType:
    file, _, name = target.rpartition(":")
    if file and name.isidentifier():
        hint = f"worker runs all workflows of a file: perdure worker {file}"
        raise UsageError(f"{target!r} is neither a file nor a module", hint=hint)
    return loading.load_workflows(target)


async def _work(engine: Engine, console: Console | None, grace: str) -> None:
    def said(name: str) -> None:
        note(f"{name}: stopping; running activities have {grace}; once more stops at once", console)

    async with Stop(said) as stop:
        async with engine:
            shown = asyncio.create_task(_show(engine, console)) if console is not None else None
            await stop.wait()
            if shown is not None:
                shown.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await shown
        note("stopped; everything that was acknowledged is in the file", console)


async def _show(engine: Engine, console: Console) -> None:
    """Keep a status line below the log."""
    from rich.live import Live
    from rich.spinner import Spinner

    began = time.monotonic()
    with Live(console=console, transient=True, refresh_per_second=4) as live:
        while True:
            looked = time.monotonic()
            line = status_line(engine.leading, await engine.counts(), looked - began)
            live.update(Spinner("dots", line))
            cost = time.monotonic() - looked  # counting a large table may take a while
            await asyncio.sleep(max(LOOK_EVERY_S, 50 * cost))


def status_line(leading: bool, counts: dict[Status, int], up_s: float) -> Any:
    from rich.text import Text

    line = Text.assemble(("running" if leading else "standing by", "bold green" if leading else "yellow"))
    line.append(f"  up {brief(up_s)}", "dim")
    found = Counter(counts)
    for status in Status:
        if found[status]:
            line.append(f"  {found[status]:,} ", STYLES[status])
            line.append(clean(status), "dim")
    return line
