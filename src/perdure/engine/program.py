"""Running an external program as an activity: a JSON object on its standard input, the JSON result on its standard
output.

Its standard error is a log: each line goes to the logger `perdure.activity`, the last 8 KiB into the history. The
program finds `PERDURE_EXECUTION_ID`, `PERDURE_ATTEMPT` and `PERDURE_IDEMPOTENCY_KEY` in its environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os

from perdure.engine.attempt import Attempt
from perdure.errors import ExecFailed

logger = logging.getLogger("perdure.activity")

LOG_BYTES = 8 * 1024
KILL_AFTER_S = 5.0


async def run(attempt: Attempt) -> tuple[str, str]:
    """Run the attempt's program to its end; give its output and its log. Raises `ExecFailed` for a status other
    than 0."""
    command = attempt.activity_def.defaults.command
    environment = {
        **os.environ,
        "PERDURE_EXECUTION_ID": attempt.execution_id,
        "PERDURE_ATTEMPT": str(attempt.number),
        "PERDURE_IDEMPOTENCY_KEY": attempt.idempotency_key,
    }
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment,
        )
    except OSError as error:
        raise ExecFailed(f"{command[0]} could not be started: {error}", hint="check the path in exec=[…]") from error
    try:
        return await _talk(attempt, process)
    finally:
        if process.returncode is None:
            await asyncio.shield(_end(process))


async def _talk(attempt: Attempt, process: asyncio.subprocess.Process) -> tuple[str, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    log = asyncio.ensure_future(_read_log(attempt, process.stderr))
    try:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may not want its input
            process.stdin.write(attempt.data.encode())
            await process.stdin.drain()
            process.stdin.close()
        output = await process.stdout.read()
        status = await process.wait()
        stderr = await log
    finally:
        log.cancel()
    if status != 0:
        raise ExecFailed(
            f"{attempt.activity_def.defaults.command[0]} ended with status {status}", returncode=status, stderr=stderr
        )
    return output.decode(errors="replace"), stderr


async def _read_log(attempt: Attempt, stream: asyncio.StreamReader) -> str:
    kept = b""
    while chunk := await stream.read(4096):
        for line in chunk.decode(errors="replace").splitlines():
            logger.info("%s %s: %s", attempt.execution_id, attempt.activity, line)
        kept = (kept + chunk)[-LOG_BYTES:]
    return kept.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the program to end, then make it."""
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), KILL_AFTER_S)
        except TimeoutError:
            process.kill()
            await process.wait()
