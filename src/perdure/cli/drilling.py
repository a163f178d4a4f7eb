"""`perdure drill`: restore a replica for no other reason than to see that it can be done."""

from __future__ import annotations

import asyncio
import contextlib
import io
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from perdure.cli import loading, options
from perdure.cli.command import command
from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.output import Output, complain, note

if TYPE_CHECKING:
    from perdure.replication.drill_report import DrillReport


@command
def drill(
    url: Annotated[str, typer.Argument(metavar="URL", help="Such as s3://bucket/prefix/shop.", show_default=False)],
    modules: Annotated[
        list[str] | None,
        typer.Argument(metavar="[FILE_OR_MODULE]...", help="The code: histories are replayed.", show_default=False),
    ] = None,
    sample: Annotated[int, typer.Option("--sample", "-n", min=1, help="So many histories, the newest.")] = 100,
    folder: Annotated[
        Path | None, typer.Option("--folder", metavar="DIR", help="Where to restore to; emptied at the end.")
    ] = None,
    json: options.Json = False,
) -> int:
    """Restore a replica to a temporary place, and compare what is in it with what the runner recorded.

    Nothing is written to the bucket, and the database may be in use. The exit code is 1 when something is wrong.

    In a pipe: check, verdict, detail, with tabs between.
    """
    from perdure.replication.drill import drill as run  # only who replicates needs it

    target = options.replica_target(url)
    if folder is not None and not folder.is_dir():
        raise UsageError(f"{folder} is not a folder")
    with contextlib.redirect_stdout(sys.stderr):
        code = [loading.load_workflows(name) for name in modules or ()]
    with contextlib.redirect_stdout(io.StringIO()):  # what workflows print was said before
        report = asyncio.run(run(target, code=code, sample=sample, codec=options.codec(), folder=folder, progress=note))
    _write(report, Output(json))
    if report.ok:
        return ExitCode.OK
    complain(f"something is wrong with {target}", "see the lines that say problem")
    return ExitCode.FAILED


def _write(report: DrillReport, out: Output) -> None:
    if out.json:
        out.object(report)
        return
    for one in report.checks:
        out.finding(one.check, one.verdict, one.detail)
