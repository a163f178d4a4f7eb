"""How long it takes until something runs: importing perdure, and a new process after a crash."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.jobs.definitions import database

PROGRAM = Path(__file__).with_name("recovered.py")
NOT_IMPORTED = ("perdure.cli", "perdure.server", "pydantic", "rich", "typer", "zstandard", "http")


async def cold(folder: Path, *, steps: int, rounds: int) -> dict[str, float]:
    """Kill a program in the middle of a workflow, after some steps; from its new start to its first new step, ms."""
    path = database(folder)
    _run_until(path, steps)
    taken_ms = [_run_until(path, steps + number) for number in range(1, rounds + 1)]
    return {"": statistics.median(taken_ms), "max": max(taken_ms)}


def _run_until(path: Path, step: int) -> float:
    """Start the program, kill it once it says that `step` runs; give the milliseconds between, by one clock that all
    processes share."""
    began = time.monotonic()
    process = subprocess.Popen([sys.executable, str(PROGRAM), str(path), str(step)], stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
    finally:
        process.kill()
        process.communicate()
    return (float(said) - began) * 1e3


async def importing(folder: Path, *, rounds: int) -> dict[str, float]:
    """`python -c "import perdure"` minus `python -c pass`, byte code compiled, taken in turns: milliseconds."""
    loaded = _python("import sys, perdure; print(*sys.modules)")[1].split()
    if heavy := [name for name in NOT_IMPORTED if name in loaded]:
        raise RuntimeError(f"`import perdure` imports {', '.join(heavy)}")
    pairs = [(_python("import perdure")[0], _python("pass")[0]) for _ in range(rounds)]
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    return {"": ours - bare, "modules": len(loaded)}


def _python(code: str) -> tuple[float, str]:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return (time.perf_counter() - began) * 1e3, done.stdout
