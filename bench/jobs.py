"""The jobs in perdure. One process runs one job, on a new database, and prints {"values": [one figure]}.

Every job checks its results, and warms up first, on an execution of its own: long enough for the first checkpoint,
because until then each commit also makes the WAL file longer, which would flatter what comes last (see raw.py).
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path

from perdure import Engine, activity, workflow

WARM_UP_STEPS = 1_000
WINDOW = 1_000
"""How many steps at either end `flat` compares."""

_stamps: list[float] = []


@activity
async def noop(n: int) -> int:
    return n


@activity
async def stamped(n: int) -> int:
    _stamps.append(time.perf_counter())
    return n


@workflow
async def sequence(steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await noop(n)
    return total


@workflow
async def stamped_sequence(steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await stamped(n)
    return total


async def seq(engine: Engine, *, steps: int) -> float:
    """One workflow, one step after another: steps/s."""
    started = time.perf_counter()
    execution = await engine.start(sequence, steps, id="seq")
    total = await execution.result()
    elapsed_s = time.perf_counter() - started
    _check([total], steps)
    return steps / elapsed_s


async def conc(engine: Engine, *, workflows: int, steps: int) -> float:
    """Many workflows at once, each one step after another: steps/s of all together, their starts included."""
    started = time.perf_counter()
    executions = await asyncio.gather(*(engine.start(sequence, steps, id=f"conc-{n}") for n in range(workflows)))
    totals = await asyncio.gather(*(execution.result() for execution in executions))
    elapsed_s = time.perf_counter() - started
    _check(totals, steps)
    return workflows * steps / elapsed_s


async def flat(engine: Engine, *, steps: int) -> float:
    """One long workflow: the time of its last 1,000 steps by that of its first 1,000."""
    execution = await engine.start(stamped_sequence, steps, id="flat")
    _check([await execution.result()], steps)
    if len(_stamps) != steps:
        raise RuntimeError(f"{steps} steps ran {len(_stamps)} times")
    first_s = _stamps[WINDOW] - _stamps[0]
    last_s = _stamps[-1] - _stamps[-1 - WINDOW]
    return last_s / first_s


def _check(totals: list[int], steps: int) -> None:
    expected = steps * (steps - 1) // 2
    if any(total != expected for total in totals):
        raise RuntimeError(f"a wrong result: expected {expected}, got {set(totals)}")


async def _run(options: argparse.Namespace) -> float:
    async with Engine(options.dir / "bench.db", workflows=[sequence, stamped_sequence]) as engine:
        warm_up = await engine.start(sequence, WARM_UP_STEPS, id="warm-up")
        await warm_up.result()
        match options.job:
            case "seq":
                return await seq(engine, steps=options.steps)
            case "conc":
                return await conc(engine, workflows=options.workflows, steps=options.steps)
            case _:
                return await flat(engine, steps=options.steps)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__)
    parser.add_argument("job", choices=["seq", "conc", "flat"])
    parser.add_argument("--dir", type=Path, required=True, help="an empty folder for the database")
    parser.add_argument("--steps", type=int, required=True, help="per workflow")
    parser.add_argument("--workflows", type=int, default=1)
    options = parser.parse_args()
    print(json.dumps({"values": [asyncio.run(_run(options))]}))


if __name__ == "__main__":
    main()
