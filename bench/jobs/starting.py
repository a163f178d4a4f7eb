"""How long it takes until something runs: importing perdure, and a new process after a crash."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.jobs.definitions import database

PROGRAM = Path(__file__).with_name("recovered.py")
BYTE_CODE = "PYTHONPYCACHEPREFIX"
NOT_IMPORTED = ("perdure.cli", "perdure.server", "pydantic", "rich", "typer", "zstandard", "http")


async def cold(folder: Path, *, steps: int, rounds: int) -> dict[str, float]:
    """Kill a program in the middle of a workflow, after some steps; from its new start to its first new step, ms."""
    path, environment = database(folder), _compiling(folder)
    _run_until(path, steps, environment)
    taken_ms = [_run_until(path, steps + number, environment) for number in range(1, rounds + 1)]
    return {"": statistics.median(taken_ms), "max": max(taken_ms)}


def _run_until(path: Path, step: int, environment: dict[str, str]) -> float:
    """Start the program, kill it once it says that `step` runs; give the milliseconds between, by one clock that all
    processes share."""
    began = time.monotonic()
    command = [sys.executable, str(PROGRAM), str(path), str(step)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment)
    try:
        assert process.stdout is not None
        said = process.stdout.readline()
    finally:
        process.kill()
        process.communicate()
    return (float(said) - began) * 1e3


async def importing(folder: Path, *, rounds: int) -> dict[str, float]:
    """`python -c "import perdure"` minus `python -c pass`, byte code compiled, taken in turns: milliseconds."""
    environment = _compiling(folder)
    loaded = _python("import sys, perdure; print(*sys.modules)", environment)[1].split()
    if heavy := [name for name in NOT_IMPORTED if name in loaded]:
        raise RuntimeError(f"`import perdure` imports {', '.join(heavy)}")
    pairs = [(_python("import perdure", environment)[0], _python("pass", environment)[0]) for _ in range(rounds)]
    ours, bare = (statistics.median(column) for column in zip(*pairs, strict=True))
    asyncio_ms = statistics.median(_python("import asyncio", environment)[0] for _ in range(rounds)) - bare
    return {"": ours - bare, "modules": len(loaded), "asyncio": asyncio_ms}


def _python(code: str, environment: dict[str, str]) -> tuple[float, str]:
    began = time.perf_counter()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return (time.perf_counter() - began) * 1e3, done.stdout


def _compiling(folder: Path) -> dict[str, str]:
    """Have byte code kept, as on a user's machine, even where the environment says not to; in the job's own folder."""
    inherited = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return inherited | {BYTE_CODE: str(folder / "byte-code")}
