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
import signal
from typing import Any

from perdure.activity import Activity
from perdure.engine.attempt import Attempt
from perdure.errors import ExecFailed, InvalidValue, PayloadTooLarge

logger = logging.getLogger("perdure.activity")

LOG_BYTES = 8 * 1024
KILL_AFTER_S = 2.0


async def run(attempt: Attempt, max_bytes: int) -> tuple[str, str]:
    """Run the attempt's program to its end; give its output and its log.

    Raises `ExecFailed` for a status other than 0, `PayloadTooLarge` for more output than `max_bytes`.
    """
    command = attempt.activity_def.defaults.command
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PERDURE_KEYS"},
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
            process_group=0,  # Ctrl-C is for us; and so that what the program starts ends with it
        )
    except OSError as error:
        raise ExecFailed(f"{command[0]} could not be started: {error}", hint="check the path in exec=[…]") from error
    try:
        return await _talk(attempt, process, max_bytes)
    finally:
        if process.returncode is None:
            await asyncio.shield(_end(process))


def result(activity: Activity[..., Any, Any], output: str) -> str:
    """Give the result that a program printed, as JSON of the activity's type. Nothing printed means null."""
    try:
        return activity.returns.check(activity.returns.decode(output.strip() or "null"))
    except InvalidValue as error:
        began = output if len(output) <= 200 else output[:200] + "…"
        raise InvalidValue(
            f"activity {activity.name}: the standard output of {activity.defaults.command[0]} is not its result as "
            f"JSON: {error.__cause__ or error}; it is {began!r}",
            hint="print one JSON value of the type that the activity returns, and everything else to standard error",
        ) from error


async def _talk(attempt: Attempt, process: asyncio.subprocess.Process, max_bytes: int) -> tuple[str, str]:
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    # all at once: a program may write while it still reads
    input = asyncio.ensure_future(_write_input(process.stdin, attempt.data.encode()))
    log = asyncio.ensure_future(_read_log(attempt, process.stderr))
    try:
        output = await _read_output(attempt, process.stdout, max_bytes)
        status = await process.wait()
        stderr = await log
    finally:
        input.cancel()
        log.cancel()
    if status != 0:
        raise ExecFailed(
            f"{attempt.activity_def.defaults.command[0]} ended with status {status}", returncode=status, stderr=stderr
        )
    return output, stderr


async def _write_input(stream: asyncio.StreamWriter, data: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may not want its input
        stream.write(data)
        await stream.drain()
        stream.close()


async def _read_output(attempt: Attempt, stream: asyncio.StreamReader, max_bytes: int) -> str:
    output = bytearray()
    while chunk := await stream.read(65_536):
        output += chunk
        if len(output) > max_bytes:
            raise PayloadTooLarge(
                f"activity {attempt.activity}: its program printed more than {max_bytes:,} bytes",
                hint="have it write a file and print its name, or raise max_payload_bytes",
            )
    return output.decode(errors="replace")


async def _read_log(attempt: Attempt, stream: asyncio.StreamReader) -> str:
    kept = b""
    while chunk := await stream.read(4096):
        for line in chunk.decode(errors="replace").splitlines():
            logger.info("%s %s: %s", attempt.execution_id, attempt.activity, line)
        kept = (kept + chunk)[-LOG_BYTES:]
    return kept.decode(errors="replace")


async def _end(process: asyncio.subprocess.Process) -> None:
    """Ask the program, and what it started, to end; then make it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), KILL_AFTER_S)
        except TimeoutError:
            os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
