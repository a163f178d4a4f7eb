"""`perdure verify`: does today's code fit the histories that were recorded."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from perdure.cli import loading, options
from perdure.cli.command import command
from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.output import Output, complain, error_console, note, styled
from perdure.types import Status

if TYPE_CHECKING:
    from rich.progress import Progress

    from perdure.testing.replay_report import Mismatch, ReplayReport

OPEN = tuple(status for status in Status if not status.closed)
SHOW_FROM = 200
"""So many executions are worth a progress bar."""


class Verified(msgspec.Struct):
    """What `--json` writes."""

    ok: bool
    checked: int
    mismatches: list[Mismatch]


@command
def verify(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DB", help="A database, a history file, or a folder of history files.", show_default=False
        ),
    ],
    modules: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE_OR_MODULE...", help="The code: such as shop.py or shop.orders.", show_default=False
        ),
    ],
    workflow: Annotated[str | None, typer.Option("--workflow", "-w", metavar="NAME", help="Of this workflow.")] = None,
    status: Annotated[list[Status] | None, typer.Option("--status", "-s", help="In this status; repeatable.")] = None,
    only_open: Annotated[bool, typer.Option("--open", help="Only those that have not ended.")] = False,
    id: Annotated[
        list[str] | None,
        typer.Option("--id", metavar="ID", help="Only this execution; repeatable.", autocompletion=options.complete_id),
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse code that is not deterministic.")] = False,
    json: options.Json = False,
) -> int:
    """Replay recorded histories against the code of a module, and tell which executions do not fit.

    Nothing is run and nothing is written, so the database may be in use: check a new version of the code before it is
    deployed. The exit code is 1 when an execution does not fit.

    In a pipe: id, run, workflow, status, what, seq, expected, got, source, with tabs between.
    """
    from perdure.testing.replaying import check_replay  # the rest of the command line does not need it

    if only_open and status:
        raise UsageError("--open and --status exclude each other", hint="--open stands for all open statuses")
    out = Output(json)
    with contextlib.redirect_stdout(sys.stderr):
        code = [loading.load_workflows(target) for target in modules]
    try:
        with Checking() as checking, contextlib.redirect_stdout(io.StringIO()):  # what workflows print was said before
            report = check_replay(
                source, code, workflow=workflow, status=OPEN if only_open else tuple(status or ()), ids=tuple(id or ()),
                limit=limit, codec=options.codec(), strict=strict, progress=checking.advance,
            )  # fmt: skip
    except ValueError as error:  # two workflows of one name
        raise UsageError(str(error)) from None
    _write(report, out)
    if not out.terminal:
        note(str(report).partition("\n")[0])
    if not report.checked:
        note("no execution was checked: nothing in the source is what was asked for")
    if report.ok:
        return ExitCode.OK
    count = len(report.mismatches)
    verb = "does" if count == 1 else "do"
    complain(
        f"{count:,} of {report.checked:,} histories {verb} not fit",
        'see "Living with code changes" in the documentation',
    )
    return ExitCode.FAILED


def _write(report: ReplayReport, out: Output) -> None:
    if out.json:
        out.object(Verified(report.ok, report.checked, report.mismatches))
    elif out.terminal:
        out.print(styled(str(report), "" if report.ok else "red"))
    else:
        for found in report.mismatches:
            got = found.got or found.message
            out.line(
                found.id, found.run, found.workflow, found.status, found.what, found.seq, found.expected, got,
                found.source,
            )  # fmt: skip


class Checking:
    """A progress bar on a terminal's stderr, once there is enough to wait for."""

    def __init__(self) -> None:
        self._bar: Progress | None = None
        self._advance: Callable[[int], None] | None = None

    def __enter__(self) -> Checking:
        return self

    def advance(self, done: int, total: int | None) -> None:
        if self._advance is not None:
            self._advance(done)
        elif done == 1 and (total is None or total >= SHOW_FROM) and sys.stderr.isatty():
            from rich.progress import Progress

            bar = self._bar = Progress(console=error_console(), transient=True)
            task = bar.add_task("replaying", total=total)
            self._advance = lambda count: bar.update(task, completed=count)
            bar.start()

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.stop()
