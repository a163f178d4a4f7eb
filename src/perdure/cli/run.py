"""`perdure run`: one workflow to its end, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sys
from collections.abc import Iterator
from typing import Annotated, Any

import typer

from perdure.cli import arguments, loading, logs, options
from perdure.cli.command import command
from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.failure import hint_of, report
from perdure.cli.moments import brief, positive_seconds, seconds
from perdure.cli.output import Output, clean, complain, error_console, note, recorded
from perdure.cli.progress import Progress
from perdure.cli.stopping import Stop, leave_if_stuck
from perdure.client import Execution
from perdure.codec import decode_failure
from perdure.engine.engine import Engine
from perdure.types import Conflict, ExecutionInfo, HistoryEvent, Status

LOOK_EVERY_S = 0.25


@command
def run(
    workflow: Annotated[
        str,
        typer.Argument(
            metavar="MODULE:WORKFLOW", help="Such as shop.py:fulfil or shop.orders:fulfil.", show_default=False
        ),
    ],
    input: options.Input = "{}",
    id: options.NewId = None,
    on_conflict: Annotated[Conflict, typer.Option("--on-conflict", help="When the id is taken.")] = Conflict.JOIN,
    timeout: Annotated[
        str | None, typer.Option("--timeout", metavar="DURATION", help="Wait no longer. The execution stays open.")
    ] = None,
    time_limit: options.TimeLimit = None,
    grace: Annotated[
        str, typer.Option("--grace", metavar="DURATION", help="For running activities when interrupted.")
    ] = "10s",
    strict: Annotated[bool, typer.Option("--strict", help="Refuse code that is not deterministic.")] = False,
    db: options.Db = options.DEFAULT,
    json: options.Json = False,
) -> int:
    """Run one workflow to its end in this process, and print its result as JSON.

    Other open executions of the database go on as well, and one with the same id and input is joined: interrupted, run
    the same command again. What the workflow prints goes to stderr.
    """
    module, found = loading.load_workflow(workflow)
    args, kwargs = arguments.bind(found, input)
    limits = positive_seconds(timeout), positive_seconds(time_limit)
    try:
        engine = Engine(db, [module, found], codec=options.codec(), strict=strict, grace_s=seconds(grace))
    except ValueError as error:  # two workflows of one name
        raise UsageError(str(error)) from None
    running = Running(engine, limits[0], Output(json))
    start = {"id": id, "on_conflict": on_conflict, "timeout_s": limits[1]}
    with _prints_to_stderr():
        code = asyncio.run(running.run(found, args, {**kwargs, **start}))
    leave_if_stuck(code)
    return code


@contextlib.contextmanager
def _prints_to_stderr() -> Iterator[None]:
    """Keep stdout for the result."""
    with contextlib.redirect_stdout(sys.stderr):
        yield


class Running:
    """One execution while this command waits for it."""

    def __init__(self, engine: Engine, timeout_s: float | None, out: Output) -> None:
        self.engine = engine
        self.timeout_s = timeout_s
        self.out = out
        self.stdout = sys.stdout
        self.console = error_console() if sys.stderr.isatty() else None
        self.execution: Execution[Any]
        self.status = Status.PENDING

    async def run(self, workflow: Any, args: tuple[Any, ...], options: dict[str, Any]) -> int:
        logs.configure(logging.WARNING, self.console)
        async with Stop(lambda name: note(f"{name}: stopping; once more stops at once", self.console)) as stop:
            async with self.engine as engine:
                self.execution = await engine.start(workflow, *args, **options)
                with Progress(self.console, self.execution, workflow.name) as progress:
                    ended = await self._wait(stop, progress)
                if ended:
                    return await self._report()
                info = await self.execution.info()
            return self._unfinished(info, stop.requested)

    async def _wait(self, stop: Stop, progress: Progress) -> bool:
        """Wait for the end; False when something else came first."""
        ended = asyncio.ensure_future(self.execution.result())
        asked = asyncio.ensure_future(stop.wait())
        loop = asyncio.get_running_loop()
        deadline = None if self.timeout_s is None else loop.time() + self.timeout_s
        try:
            while not (ended.done() or asked.done() or self.status is Status.BLOCKED):
                left = LOOK_EVERY_S if deadline is None else min(LOOK_EVERY_S, deadline - loop.time())
                if left <= 0:
                    break
                await asyncio.wait({ended, asked}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                await self._look(progress)
            return ended.done()
        finally:
            for task in (ended, asked):
                task.cancel()
            await asyncio.gather(ended, asked, return_exceptions=True)  # how it ended is read from the history

    async def _look(self, progress: Progress) -> None:
        info = await self.execution.info()
        if info.status is Status.PAUSED and self.status is not Status.PAUSED:
            note(f"execution {info.id} is paused: `perdure resume {info.id}` lets it go on", self.console)
        self.status = info.status
        await progress.update(info)

    # --- the end ----------------------------------------------------------------------------------------------------

    async def _report(self) -> int:
        info = await self.execution.info()
        last = [event async for event in self.execution.history(run=info.run, after=info.events - 1)][-1]
        if self.out.json:
            self._print(_summary(info, last))
        elif info.status is Status.COMPLETED:
            self._print(recorded(last.data or "null"))
        if info.status is Status.COMPLETED:
            return ExitCode.OK
        self._complain(info, last)
        return ExitCode.FAILED

    def _print(self, value: Any) -> None:
        with contextlib.redirect_stdout(self.stdout):
            if self.out.terminal:
                self.out.console.print_json(bytes(value).decode())
            else:
                self.out.object(value)

    def _complain(self, info: ExecutionInfo, last: HistoryEvent) -> None:
        took = brief((info.ended_at or info.created_at) - info.created_at)
        if info.status is not Status.FAILED:
            reason = last.value()
            why = f": {reason}" if reason else ""
            complain(f"execution {info.id} was {info.status} after {took}{why}")
            return
        failure = decode_failure(last.data or "{}")
        sys.stderr.write(clean(report(failure), lines=True) + "\n")
        hint = (
            hint_of(failure) or f"`perdure show {info.id}` shows what happened, `perdure retry {info.id}` tries again"
        )
        complain(f"execution {info.id} failed after {took}: {info.error}", hint)

    def _unfinished(self, info: ExecutionInfo, interrupted: bool) -> int:
        if self.out.json:
            self._print({"id": info.id, "run": info.run, "status": info.status, "problem": info.problem})
        if info.status is Status.BLOCKED:
            problem, _, hint = (info.problem or "").partition("\n  hint: ")
            complain(f"execution {info.id} is blocked: {problem}", hint)
            return ExitCode.FAILED
        hint = f"it goes on with a worker, or when you run this again with --id {info.id}"
        what = "was interrupted" if interrupted else f"has not ended after {self.timeout_s:g} s"
        complain(f"execution {info.id} {what}; it is {info.status}", hint)
        return ExitCode.INTERRUPTED if interrupted else ExitCode.TIMED_OUT


def _summary(info: ExecutionInfo, last: HistoryEvent) -> dict[str, Any]:
    completed = info.status is Status.COMPLETED
    result = {"result": recorded(last.data or "null")} if completed else {"error": info.error}
    return {"id": info.id, "run": info.run, "status": info.status, **result}
