"""Running an engine until it is told to stop: with a status line, from a local file or from a bucket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perdure.cli.exits import ExitCode, UsageError
from perdure.cli.moments import brief
from perdure.cli.output import STYLES, clean, note
from perdure.cli.stopping import Stop
from perdure.engine.engine import Engine
from perdure.engine.replicator import Replicator
from perdure.errors import StoreBusy, StoreError, StoreFull, StoreReadOnly
from perdure.types import Status

if TYPE_CHECKING:
    from rich.console import Console

    from perdure.replication.replica import Replica

LOOK_EVERY_S = 0.5
BUCKETS = ("s3://", "file://")


def is_bucket(db: str) -> bool:
    """Say whether a database is named by where it is in a bucket."""
    return db.startswith(BUCKETS)


def replica_of(url: str, **settings: Any) -> Replica:
    """Give the replica that was asked for. Raises `UsageError` when the URL is none, or a setting makes no sense."""
    from perdure.replication.replica import Replica  # only who replicates needs it
    from perdure.replication.target import InvalidTarget

    try:
        return Replica(url, **settings)
    except InvalidTarget as error:
        raise UsageError(error.message, hint=error.hint) from None
    except ValueError as error:
        raise UsageError(str(error)) from None


async def work_from_bucket(
    replica: Replica,
    lease_s: float,
    make: Callable[[Path, Replicator], Engine],
    console: Console | None,
    grace: str,
) -> int:
    """Take the lease, fetch the newest state, run it, and give the lease back; give the exit code."""
    from perdure.replication.claim import Claim

    claim = Claim(replica, lease_s=lease_s, progress=lambda step: note(step, console))
    async with Stop(lambda name: note(f"{name}: stopping", console)) as stop:
        stopping, claiming = asyncio.ensure_future(stop.wait()), asyncio.ensure_future(claim.__aenter__())
        await asyncio.wait({stopping, claiming}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if stop.requested:
            claiming.cancel()
            await asyncio.gather(claiming, return_exceptions=True)
            await claim.__aexit__(None, None, None)
            return ExitCode.OK
        await claiming
    try:
        return await work(make(claim.path, claim.replica), console, grace)
    finally:
        await claim.__aexit__(None, None, None)


async def work(engine: Engine, console: Console | None, grace: str) -> int:
    """Run an engine until Ctrl-C, SIGTERM, or until another machine has its database; give the exit code."""

    def said(name: str) -> None:
        note(f"{name}: stopping; running activities have {grace}; once more stops at once", console)

    async with Stop(said) as stop:
        async with engine:
            shown = asyncio.create_task(_show(engine, console)) if console is not None else None
            await _until_stopped(stop, engine)
            if shown is not None:
                shown.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await shown
        if engine.barred is not None:
            note(f"stopped: {engine.barred}", console)
            return ExitCode.CONFLICT
        if not engine.path.exists():
            raise StoreError(
                f"{engine.path} is no longer there", hint="what was acknowledged went with it: restore a backup"
            )
        if engine.fault is not None:
            kept = "everything that was acknowledged is in the file; the next worker does the rest again"
            harmless = isinstance(engine.fault, StoreFull | StoreBusy | StoreReadOnly)
            raise StoreError(
                f"stopped, and what was done last could not be written: {engine.fault.message}",
                hint=kept if harmless else engine.fault.hint,
            )
        note("stopped; everything that was acknowledged is in the file", console)
    return ExitCode.OK


async def _until_stopped(stop: Stop, engine: Engine) -> None:
    if engine.replicate is None:
        await stop.wait()
        return
    while engine.barred is None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY_S):
                await stop.wait()
                return


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
