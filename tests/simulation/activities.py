"""The activities of the simulated engines. What they do is written into the ledger, outside the file."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

from perdure import Retry, Transaction, activity, current_attempt

if TYPE_CHECKING:
    from simulation.ledger import Ledger

AGAIN = Retry(attempts=None, initial_s=0.02, max_s=0.5, interruptions=1_000_000)

deployed: ContextVar[bool] = ContextVar("deployed", default=True)
"""Whether the workflow code that runs is the newest, the one with `patched`."""


class Broken(Exception):
    """What a step raises that is to fail."""


class Stage:
    """Where the activities of the world that is running take effect: they are module level, so it is too."""

    ledger: Ledger


@activity(retry=AGAIN)
async def do(key: str, fails: int = 0, wait_s: float = 0.0) -> str:
    with Stage.ledger.attempt(key) as attempt:
        await asyncio.sleep(wait_s)
        if attempt.number <= fails:
            raise OSError(key)
        return key


@activity(retry=AGAIN)
def do_in_thread(key: str, fails: int = 0, wait_s: float = 0.0) -> str:
    with Stage.ledger.attempt(key) as attempt:
        Stage.ledger.wait(wait_s)
        if attempt.number <= fails:
            raise OSError(key)
        return key


@activity(transactional=True, retry=AGAIN)
def do_in_transaction(transaction: Transaction, key: str, fails: int = 0) -> str:
    attempt = current_attempt()
    transaction.execute("INSERT INTO tally VALUES (?, ?)", (attempt.idempotency_key, key))
    if attempt.number <= fails:
        raise OSError(key)
    return key


@activity(retry=Retry(never=(Broken,), interruptions=1_000_000))
async def break_down(key: str) -> None:
    with Stage.ledger.attempt(key):
        raise Broken(key)


@activity(retry=AGAIN)
async def ask_outside(key: str) -> str:
    with Stage.ledger.attempt(key) as attempt:
        Stage.ledger.ask(attempt.token, key)
        attempt.finish_later()


@activity(retry=AGAIN, total_timeout_s=1.0)
async def ask_nobody(key: str) -> str:
    with Stage.ledger.attempt(key) as attempt:
        attempt.finish_later()


@activity(retry=AGAIN, timeout_s=0.2)
async def hang(key: str) -> str:
    with Stage.ledger.attempt(key) as attempt:
        await asyncio.sleep(1_000 if attempt.number == 1 else 0.01)
        return key


@activity(retry=AGAIN, heartbeat_timeout_s=0.3)
async def beat(key: str) -> str:
    with Stage.ledger.attempt(key) as attempt:
        for n in range(3):
            attempt.heartbeat(n)
            await asyncio.sleep(0.1 if attempt.number > 1 else 0.2)
        return key


@activity(retry=Retry(attempts=1, interruptions=0))
async def do_once(key: str) -> str:
    with Stage.ledger.attempt(key, once=True):
        await asyncio.sleep(0.01)
        return key


HOW: dict[str, Any] = {"async": do, "thread": do_in_thread}


def begin(how: str, key: str, fails: int, wait_s: float) -> Any:
    """Call the activity of a `do` step."""
    if how == "transaction":
        return do_in_transaction.submit(key, fails)
    return HOW[how].submit(key, fails, wait_s)
