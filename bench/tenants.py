"""What a tenant costs that has nothing to do: `python -m bench.tenants count=1000 seconds=10 --dir DIR`.

Each of `count` databases has a workflow that waits, is opened once, runs a step, and is closed when it is idle. Then
memory and file handles of the process are compared with those before the first of them came.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from bench.jobs.definitions import plain_nap, plain_sequence
from perdure import Engine
from perdure.tenants import Tenants

FLOWS: list[Any] = [plain_sequence, plain_nap]
WARM, AT_ONCE = 100, 50
LONG_S = 86_400


async def idle(folder: Path, *, count: int, seconds: int) -> dict[str, float]:
    """Give KiB (``) and handles per idle tenant, the CPU time of looking after them in percent of one CPU, and how long
    opening one, a step and closing it takes in ms."""
    template, home = folder / "one.db", folder / "tenants"
    async with Engine(template, FLOWS) as engine:
        await engine.start(plain_nap, LONG_S)
    async with Tenants(home, FLOWS, idle_s=0.2) as tenants:
        await _use(tenants, [f"warm{n}" for n in range(WARM)])
        memory, handles = _kib(), _handles()
        names = [f"t{n}" for n in range(count)]
        for name in names:
            shutil.copy(template, home / f"{name}.db")
        while tenants.report().tenants < count + WARM:
            await asyncio.sleep(0.05)
        seen = _kib()
        began = time.perf_counter()
        await _use(tenants, names)
        each_ms = (time.perf_counter() - began) * 1000 / count
        used, held = _kib(), _handles()
        cpu_pct = await _cpu_pct(seconds)
    return {
        "": (used - memory) / count,
        "unused": (seen - memory) / count,
        "handles": (held - handles) / count,
        "cpu_pct": cpu_pct,
        "use_ms": each_ms,
    }


async def _use(tenants: Tenants, names: list[str]) -> None:
    """Open each tenant, run a step, and wait until all are closed."""

    async def one(name: str) -> None:
        async with tenants.open(name) as engine:
            await (await engine.start(plain_sequence, 1)).result()

    for start in range(0, len(names), AT_ONCE):
        await asyncio.gather(*map(one, names[start : start + AT_ONCE]))
    looks = tenants.watch.looks
    while tenants.report().open or tenants.watch.looks < looks + 8:
        await asyncio.sleep(0.05)


async def _cpu_pct(seconds: int) -> float:
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.sleep(seconds)
    return (time.process_time() - cpu) / (time.perf_counter() - began) * 100


def _kib() -> float:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1024


def _handles() -> int:
    return len(os.listdir("/proc/self/fd"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.tenants", description=__doc__)
    parser.add_argument("options", nargs="*", metavar="key=value")
    parser.add_argument("--dir", type=Path, required=True, help="an empty folder")
    options = parser.parse_args()
    if not Path("/proc/self/statm").exists():
        print(json.dumps({"not_run": "memory is read from /proc"}))
        return
    arguments = {key: int(value) for key, value in (pair.split("=", 1) for pair in options.options)}
    print(json.dumps({"values": asyncio.run(idle(options.dir, **arguments))}))


if __name__ == "__main__":
    main()
