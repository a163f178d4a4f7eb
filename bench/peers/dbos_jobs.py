"""The jobs in DBOS (https://docs.dbos.dev/python), on SQLite, with its defaults. One process runs one job.

What is compared is the rate, steps/s, not a total: DBOS gets fewer steps than perdure, so that a run takes seconds and
not minutes. Fewer workflows at once suit it, too: its rate sinks slowly as their number grows.

Its defaults on SQLite are a rollback journal (not WAL) with `synchronous=FULL`, the Python `sqlite3` module through
SQLAlchemy with a pool of 20 connections, and `BEGIN IMMEDIATE`; like perdure it has each step on disk before the next
one starts. Only the place of its file and its log level (which writes less) are set here. Workflows and steps are
`async`, started from async code by `start_workflow_async`; calling the workflow function directly is no faster.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from dbos import DBOS, DBOSConfig

WARM_UP_STEPS = 10


# DBOS finds its workflows by module-level registration, so there is no engine to pass them to.
@DBOS.step()
async def noop(n: int) -> int:
    return n


@DBOS.workflow()
async def sequence(steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await noop(n)
    return total


async def run(workflows: int, steps: int) -> float:
    """Run `workflows` of `steps` steps at once: steps/s of all together, their starts included."""
    started = time.perf_counter()
    handles = await asyncio.gather(*(DBOS.start_workflow_async(sequence, steps) for _ in range(workflows)))
    totals = await asyncio.gather(*(handle.get_result() for handle in handles))
    elapsed_s = time.perf_counter() - started
    _check(totals, steps)
    return workflows * steps / elapsed_s


def _check(totals: list[int], steps: int) -> None:
    expected = steps * (steps - 1) // 2
    if any(total != expected for total in totals):
        raise RuntimeError(f"a wrong result: expected {expected}, got {set(totals)}")


async def _recorded(workflows: int, steps: int) -> None:
    """Check that DBOS did record every step, so that it is not compared for work that it did not do."""
    succeeded = await DBOS.list_workflows_async(status="SUCCESS")
    counted = [len(await DBOS.list_workflow_steps_async(workflow.workflow_id)) for workflow in succeeded]
    if counted.count(steps) != workflows:
        raise RuntimeError(f"expected {workflows} workflows with {steps} recorded steps, found {sorted(counted)}")


async def _main(options: argparse.Namespace) -> float:
    path = options.dir.absolute() / "dbos.sqlite"
    config: DBOSConfig = {
        "name": "perdure-bench",
        "system_database_url": f"sqlite:///{path}",
        "log_level": "WARNING",
    }
    DBOS(config=config)
    DBOS.launch()
    try:
        await run(1, WARM_UP_STEPS)
        steps_per_s = await run(options.workflows, options.steps)
        await _recorded(options.workflows, options.steps)
    finally:
        DBOS.destroy()
    return steps_per_s


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.dbos_jobs", description=__doc__)
    parser.add_argument("job", choices=["seq", "conc"])
    parser.add_argument("--dir", type=Path, required=True, help="an empty folder for the database")
    parser.add_argument("--steps", type=int, required=True, help="per workflow")
    parser.add_argument("--workflows", type=int, default=1, help="only for conc")
    options = parser.parse_args()
    if options.job == "seq":
        options.workflows = 1
    print(json.dumps({"values": {"": asyncio.run(_main(options))}}))


if __name__ == "__main__":
    main()
