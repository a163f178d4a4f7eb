"""The activities that the killed workers run. Each writes into the ledger of effects what it did."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from pathlib import Path

import apsw
from crash_ledger import Effect, Places, Token, append

from perdure import Retry, Transaction, activity, current_attempt
from perdure.events import Kind

AGAIN = Retry(attempts=None, initial_s=0.005, max_s=0.02, interruptions=100_000)

_own = threading.local()


def take_effect(key: str) -> None:
    attempt = current_attempt()
    effect = Effect(
        attempt.execution_id,
        key,
        attempt.idempotency_key,
        attempt.activity,
        attempt.number,
        os.getpid(),
        is_committed(attempt.idempotency_key),
    )
    append(Places.here().effects, effect)


def is_committed(idempotency: str) -> bool:
    """Say whether the schedule of an activity is in the file, as a connection sees it that is not the engine's."""
    if not hasattr(_own, "connection"):
        _own.connection = apsw.Connection(str(Places.here().database), flags=apsw.SQLITE_OPEN_READONLY)
        _own.connection.set_busy_timeout(10_000)
    id, run, seq = idempotency.rsplit(":", 2)
    sql = (
        "SELECT e.kind FROM perdure_event e JOIN perdure_execution x ON x.num = e.execution "
        "WHERE x.id = ? AND x.run = ? AND e.seq = ?"
    )
    return _own.connection.execute(sql, (id, int(run), int(seq))).get == Kind.ACTIVITY_SCHEDULED


@activity(retry=AGAIN)
def step(key: str) -> str:
    take_effect(key)
    return key


@activity(retry=AGAIN)
async def async_step(key: str) -> str:
    await asyncio.sleep(0.002)
    take_effect(key)
    return key


@activity(retry=AGAIN)
async def slow_step(key: str) -> str:
    await asyncio.sleep(0.1)
    take_effect(key)
    return key


@activity(retry=AGAIN, executor="process")
def pool_step(key: str) -> str:
    take_effect(key)
    return key


_PROGRAM = r"""
read -r input
key=${input#*:\"}; key=${key%%\"*}
[ -n "$key" ] || exit 1  # its worker died before it had told us
printf '{"id":"%s","key":"%s","idempotency":"%s","activity":"exec_step","attempt":%s,"pid":%s}\n' \
  "$PERDURE_EXECUTION_ID" "$key" "$PERDURE_IDEMPOTENCY_KEY" "$PERDURE_ATTEMPT" $$ >> "$PERDURE_CRASH_SITE/effects"
printf '"%s"' "$key"
"""


@activity(retry=AGAIN, exec=["sh", "-c", _PROGRAM])
def exec_step(key: str) -> str:
    raise NotImplementedError("the program runs in its place")


@activity(retry=AGAIN)
def stumble(key: str, fails: int) -> str:
    take_effect(key)
    if current_attempt().number <= fails:
        raise OSError(key)
    return key


@activity(retry=Retry(attempts=1, interruptions=100_000))
def balk(key: str) -> str:
    """Fail for good until there is a flag for this execution."""
    take_effect(key)
    if not flag(current_attempt().execution_id).exists():
        raise ValueError(key)
    return key


@activity(retry=AGAIN)
def beat(key: str, beats: int) -> int:
    """Say after each part how far it is; a later attempt goes on from there. Gives how many parts there were."""
    attempt = current_attempt()
    done = attempt.last_details or 0
    while done < beats:
        done += 1
        attempt.heartbeat(done)
        time.sleep(0.01)
    take_effect(key)
    return done


@activity(retry=AGAIN)
async def ask_outside(key: str) -> str:
    """Leave the answer to another process: the token goes into a file."""
    attempt = current_attempt()
    take_effect(key)
    append(Places.here().tokens, Token(attempt.token, key))
    attempt.finish_later()


@activity(retry=AGAIN)
def make_large(key: str) -> str:
    take_effect(key)
    return key * 50_000


@activity(transactional=True)
def tally(transaction: Transaction, execution: str, n: int) -> int:
    """Insert a row and give how many this execution has."""
    transaction.execute("CREATE TABLE IF NOT EXISTS tally (execution TEXT, n INTEGER)")
    transaction.execute("INSERT INTO tally VALUES (?, ?)", (execution, n))
    return transaction.execute("SELECT count(*) FROM tally WHERE execution = ?", (execution,))[0][0]


# --- flags ----------------------------------------------------------------------------------------------------------


def flag(id: str) -> Path:
    """Give the file whose presence lets `balk` succeed in the execution `id`, or in a child of it."""
    return Places.here().flags / id.partition("/")[0]


def raise_flag(places: Places, id: str) -> None:
    with contextlib.suppress(FileExistsError):
        places.flags.mkdir()
    (places.flags / id.partition("/")[0]).touch()
