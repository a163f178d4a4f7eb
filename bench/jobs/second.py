"""The second process of the jobs that need one: a `Client` of the database that the job's engine runs."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


async def second_process(what: str, path: Path, count: int) -> dict[str, float]:
    """Run `what` of `client.py` in a process of its own; give its figures. Raises when it fails."""
    command = [sys.executable, "-m", "bench.jobs.client", what, str(path), str(count)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError(f"the second process ({what}) failed")
    values: dict[str, float] = json.loads(output)
    return values
