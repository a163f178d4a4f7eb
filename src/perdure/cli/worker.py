"""`perdure worker`: a process that runs a module's workflows until it is told to stop."""

from __future__ import annotations

import asyncio
import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated

import typer

from perdure.cli import loading, logs, options
from perdure.cli.command import command
from perdure.cli.exits import UsageError
from perdure.cli.moments import positive_seconds, seconds
from perdure.cli.output import counted, error_console, note
from perdure.cli.stopping import leave_if_stuck
from perdure.cli.tenanting import work_on_tenants
from perdure.cli.working import is_bucket, replica_of, work, work_from_bucket
from perdure.engine.engine import Engine
from perdure.engine.replicator import Replicator
from perdure.store.sqlite.connection import Synchronous
from perdure.tenants import Tenants


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
        typer.Option("--deployment", metavar="NAME", help="Names this version of the code."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse code that is not deterministic.")] = False,
    synchronous: Annotated[
        str,
        typer.Option("--synchronous", metavar="full|normal", help="`normal`: a power cut may lose the newest commits."),
    ] = "full",
    replicate: Annotated[
        str | None,
        typer.Option("--replicate", metavar="URL", help="Stream the database to s3://bucket/prefix."),
    ] = None,
    durability: Annotated[
        str,
        typer.Option("--durability", metavar="local|replicated", help="`replicated`: answer once it is in the bucket."),
    ] = "local",
    upload_every: Annotated[
        str, typer.Option("--upload-every", metavar="DURATION", help="From a commit to its upload, at the most.")
    ] = "100ms",
    replica_wait: Annotated[
        str,
        typer.Option("--replica-wait", metavar="DURATION", help="For what is `replicated`: so long it may take."),
    ] = "30s",
    replica_late: Annotated[
        str, typer.Option("--replica-late", metavar="fail|go-on", help="What happens when it takes longer.")
    ] = "fail",
    lag_alarm: Annotated[
        str, typer.Option("--lag-alarm", metavar="DURATION", help="Log an error when the replica is so far behind.")
    ] = "60s",
    lease: Annotated[
        str,
        typer.Option("--lease", metavar="DURATION", help="With --db s3://…: a dead machine is replaced after this."),
    ] = "15s",
    snapshot_every: Annotated[
        str | None,
        typer.Option("--snapshot-every", metavar="DURATION", help="Put a whole copy beside the replica, as a hedge."),
    ] = None,
    snapshots_keep: Annotated[int, typer.Option("--snapshots-keep", min=1, help="So many of them, the newest.")] = 28,
    drill_every: Annotated[
        str | None,
        typer.Option("--drill-every", metavar="DURATION", help="Restore the replica, to see that it can be done."),
    ] = None,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log more.")] = False,
    db_dir: options.DbDir = None,
    idle: Annotated[
        str,
        typer.Option("--idle", metavar="DURATION", help="With --db-dir: close what did nothing for so long."),
    ] = "10s",
    max_open: Annotated[int, typer.Option("--max-open", min=1, help="With --db-dir: so many are open at once.")] = 100,
    db: options.Db = options.DEFAULT,
) -> int:
    """Run the workflows of a module until Ctrl-C or SIGTERM.

    Creates the database if need be and resumes everything that was under way. While another process runs the database
    this one stands by and takes over when that is gone. The first Ctrl-C stops in order, the second at once.

    With --replicate the file is streamed to a bucket by Litestream. With --db s3://bucket/prefix no file is needed: the
    newest state is fetched from there, and streamed back; one machine at a time has the lease.

    With --db-dir it runs the databases of a folder, NAME.db for each tenant: each is opened when there is something to
    do, and closed when it is idle. A new file is picked up. With --replicate each is streamed to URL/NAME, under a
    lease of its own, and what is in the bucket and not here is fetched.
    """
    options.one_of(db, db_dir)
    if durability not in ("local", "replicated"):
        raise UsageError(f"--durability is local or replicated, not {durability}")
    if replica_late not in ("fail", "go-on"):
        raise UsageError(f"--replica-late is fail or go-on, not {replica_late}")
    if synchronous not in ("full", "normal"):
        raise UsageError(f"--synchronous is full or normal, not {synchronous}")
    mode: Synchronous = "normal" if synchronous == "normal" else "full"
    console = error_console() if sys.stderr.isatty() else None
    logs.configure(logging.DEBUG if verbose else logging.INFO, console)
    loaded = [_load(target) for target in modules]

    in_bucket = db_dir is None and is_bucket(db)
    if in_bucket and replicate is not None:
        raise UsageError("--replicate is for a local file", hint="a database in a bucket is streamed back there")
    url = db if in_bucket else replicate
    if url is None and (snapshot_every or drill_every):
        raise UsageError("--snapshot-every and --drill-every need a replica", hint="add --replicate s3://bucket/prefix")
    replica = None if url is None else replica_of(
        url, interval_s=seconds(upload_every), wait_s=seconds(replica_wait), late=replica_late.replace("-", "_"),
        lag_alarm_s=seconds(lag_alarm),
        snapshot_every_s=positive_seconds(snapshot_every), snapshots_keep=snapshots_keep,
        drill_every_s=positive_seconds(drill_every), drill_code=tuple(modules),
    )  # fmt: skip

    if db_dir is not None:
        try:
            tenants = Tenants(
                db_dir, loaded, replicate=replica, lease_s=seconds(lease), idle_s=seconds(idle), max_open=max_open,
                codec=options.codec(), synchronous=mode, strict=strict, grace_s=seconds(grace), max_threads=threads,
                max_processes=processes, deployment=deployment, durability=durability,
            )  # fmt: skip
        except ValueError as error:
            raise UsageError(str(error)) from None
        code = asyncio.run(work_on_tenants(tenants, console, grace, verbose=verbose))
        leave_if_stuck(code)
        return code

    def make(path: str | Path, replica: Replicator | None) -> Engine:
        try:
            engine = Engine(
                path, loaded, codec=options.codec(), synchronous=mode, strict=strict, grace_s=seconds(grace),
                max_threads=threads, max_processes=processes, deployment=deployment, replicate=replica,
                durability=durability,
            )  # fmt: skip
        except ValueError as error:  # two workflows of one name
            raise UsageError(str(error)) from None
        names = ", ".join(sorted(engine.registry.by_name))
        note(f"{engine.path}: {counted(len(engine.registry.by_name), 'workflow')}: {names}", console)
        return engine

    if replica is not None and in_bucket:
        code = asyncio.run(work_from_bucket(replica, seconds(lease), make, console, grace))
    else:
        code = asyncio.run(work(make(db, replica), console, grace))
    leave_if_stuck(code)
    return code


def _load(target: str) -> ModuleType:
    file, _, name = target.rpartition(":")
    if file and name.isidentifier():
        hint = f"worker runs all workflows of a file: perdure worker {file}"
        raise UsageError(f"{target!r} is neither a file nor a module", hint=hint)
    return loading.load_workflows(target)
