"""Activities for worker processes, which find them by their module: so they cannot be local to a test."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from perdure import Retry, activity, current_attempt, workflow
from perdure.errors import ActivityTimeout

ONCE = Retry(attempts=1)
TWICE = Retry(attempts=2, initial_s=0)


class Rejected(Exception):
    def __init__(self, message: str, code: int) -> None:
        super().__init__(message, code)
        self.code = code


def hang(started: str) -> None:
    Path(started).write_text(str(os.getpid()))
    threading.Event().wait(60)


@activity(executor="process")
def square(n: int) -> int:
    return n * n


@activity(executor="process")
def whoami() -> tuple[int, str, int, str]:
    attempt = current_attempt()
    return os.getpid(), attempt.execution_id, attempt.number, attempt.idempotency_key


@activity(executor="process", retry=TWICE)
def reject(code: int) -> None:
    raise Rejected("no", code)


@activity(executor="process")
def die_once(marker: str) -> int:
    if not Path(marker).exists():
        Path(marker).write_text("x")
        os._exit(7)
    return current_attempt().number


@activity(executor="process", retry=Retry(attempts=1, interruptions=1))
def die() -> None:
    os._exit(7)


@activity(executor="process", retry=ONCE)
def hanging(started: str) -> None:
    hang(started)


@activity(executor="process", retry=ONCE)
def big(size: int) -> str:
    return "x" * size


@activity(executor="process", retry=TWICE, heartbeat_timeout_s=2)
def beats_then_hangs(started: str) -> list[int]:
    attempt = current_attempt()
    if attempt.number == 1:
        attempt.heartbeat([1, 2, 3])
        hang(started)
    found: list[int] = attempt.last_details
    return found


@activity(executor="process")
def deferring(path: str) -> str:
    Path(path + ".new").write_text(current_attempt().token)
    Path(path + ".new").rename(path)
    current_attempt().finish_later()


@workflow
async def defers(path: str) -> str:
    return await deferring.submit(path)


@workflow
async def squares(n: int) -> list[int]:
    calls = [square.submit(i) for i in range(n)]
    return [await call for call in calls]


@workflow
async def ask() -> tuple[int, str, int, str]:
    return await whoami.submit()


@workflow
async def rejected(code: int) -> int:
    try:
        await reject.submit(code)
    except Rejected as error:
        return error.code
    return 0


@workflow
async def dies_once(marker: str) -> int:
    return await die_once.submit(marker)


@workflow
async def dies() -> None:
    await die.submit()


@workflow
async def hangs(started: str, limit_s: float | None = None) -> str:
    try:
        await hanging.options(timeout_s=limit_s).submit(started)
    except ActivityTimeout as error:
        return error.limit
    return "no timeout"


@workflow
async def makes_big(size: int) -> int:
    return len(await big.submit(size))


@workflow
async def resumes(started: str) -> list[int]:
    return await beats_then_hangs.submit(started)
