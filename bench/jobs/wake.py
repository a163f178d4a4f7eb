"""Start an engine on a file of sleepers: `python -m bench.jobs.wake DATABASE DUE`. Prints its figures as JSON.

`start_s` is from before the engine is opened until a new one-step workflow has its result. `timer…` are how many
milliseconds after it was due a sleeper's next step ran, its commit included; `burst…` the same where all fall due in
one instant. `rss_mb` is the most memory that the process had, until all of that was over.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path

from bench.jobs.definitions import WORKFLOWS, check, late_s, one_step, sequence, total_of
from bench.jobs.latency import percentiles
from perdure import Engine

PATIENCE_S = 120.0
STEPS = 2_000


async def wake(path: Path, due: int) -> dict[str, float]:
    began = time.perf_counter()
    async with Engine(path, workflows=WORKFLOWS) as engine:
        opened = time.perf_counter() - began
        execution = await engine.start(one_step, 1)
        await execution.result()
        started = time.perf_counter() - began
        deadline = time.monotonic() + PATIENCE_S
        while len(late_s) < 2 * due and time.monotonic() < deadline:
            await asyncio.sleep(0.1)
        steps_s = await _steps_s(engine)
    if len(late_s) != 2 * due:
        raise RuntimeError(f"{2 * due} timers were due, {len(late_s)} fired")
    timer, burst = (percentiles([late * 1e3 for late in part]) for part in (late_s[:due], late_s[due:]))
    return {
        "start_s": started,
        "opened_s": opened,
        "rss_mb": _peak_mb(),
        "steps_s": steps_s,
        **{f"timer_{name}": value for name, value in timer.items()},
        **{f"burst_{name}": value for name, value in burst.items()},
    }


async def _steps_s(engine: Engine) -> float:
    """Run one workflow step by step among the million; the first one only warms up."""
    began = 0.0
    for _ in range(2):
        began = time.perf_counter()
        execution = await engine.start(sequence, STEPS)
        check([await execution.result()], total_of(STEPS))
    return STEPS / (time.perf_counter() - began)


def _peak_mb() -> float:
    """The most memory that this process had. Not by getrusage where /proc is there: that counts the parent's, too."""
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    except FileNotFoundError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(wake(Path(sys.argv[1]), int(sys.argv[2])))))
