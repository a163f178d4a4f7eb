"""What the simulated engines run: workflows that play any program of `programs.py`, and their activities."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from perdure import (
    Retry,
    Saga,
    Signal,
    Transaction,
    activity,
    continue_as_new,
    current_attempt,
    execution_id,
    patched,
    sleep,
    state,
    uuid4,
    workflow,
)
from perdure.errors import ActivityTimeout, AttemptInterrupted

if TYPE_CHECKING:
    from simulation.ledger import Ledger

AGAIN = Retry(attempts=None, initial_s=0.02, max_s=0.5, interruptions=1_000_000)
COLLECTOR = "collector"
number = Signal("number", str)


class Broken(Exception):
    """What a step raises that is to fail."""


class Stage:
    """Where the activities of the world that is running take effect: they are module level, so it is too."""

    ledger: Ledger


# --- activities -----------------------------------------------------------------------------------------------------


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


# --- the async workflow ---------------------------------------------------------------------------------------------


@workflow
async def play(program: list[Any]) -> list[Any]:
    return await block(program)


async def block(steps: list[Any]) -> list[Any]:
    return [await _STEPS[name](*arguments) for name, *arguments in steps]


async def _do(key: str, how: str, fails: int, wait_s: float) -> str:
    result: str = await begin(how, key, fails, wait_s)
    return result


async def _sleep(seconds: float) -> str:
    await asyncio.sleep(seconds)
    return "slept"


async def _signal(name: str) -> Any:
    return await Signal(name).receive()


async def _unanswered(key: str) -> str:
    try:
        return await ask_nobody(key)
    except ActivityTimeout:
        return "late"


async def _once(key: str) -> str:
    try:
        return await do_once(key)
    except AttemptInterrupted:
        return "interrupted"


async def _set(key: str) -> str:
    state[key] = key
    return key


async def _patch(patch_id: str) -> str:
    return await do(patch_id) if patched(patch_id) else "the code before"


async def _send(key: str) -> str:
    number.send(COLLECTOR, f"{execution_id()}:{key}:{uuid4().hex}")
    return key


async def _all(branches: list[Any]) -> list[Any]:
    return list(await asyncio.gather(*(block(steps) for steps in branches)))


async def _first(branches: list[Any]) -> list[Any]:
    tasks = [asyncio.create_task(block(steps)) for steps in branches]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
    winner = next(n for n, task in enumerate(tasks) if task in done)
    return [winner, tasks[winner].result()]


async def _within(seconds: float, steps: list[Any]) -> Any:
    try:
        async with asyncio.timeout(seconds):
            return await block(steps)
    except TimeoutError:
        return "late"


async def _try(steps: list[Any]) -> Any:
    try:
        return await block(steps)
    except Broken:
        return "caught"


async def _undo(keys: list[str], steps: list[Any], broken: bool) -> Any:
    try:
        async with Saga() as saga:
            for key in keys:
                saga.add(do, f"undo {key}")
                await do(key)
            result = await block(steps)
            if broken:
                raise Broken("undo")
            return result
    except Broken:
        return "undone"


async def _finally(key: str, steps: list[Any]) -> Any:
    try:
        return await block(steps)
    finally:
        await do_in_thread.submit(key)


async def _child(kind: str, program: list[Any]) -> Any:
    return await (plain.submit(program) if kind == "plain" else play(program))


async def _leave(program: list[Any]) -> str:
    play.options(on_parent_end="abandon").submit(program)
    return "left"


async def _drop(seconds: float, program: list[Any]) -> Any:
    call = play.submit(program)
    await asyncio.sleep(seconds)
    call.cancel()
    await asyncio.wait([call])
    return "dropped" if call.cancelled() else call.result()


async def _chat(key: str, count: int) -> list[int]:
    call = tell.submit(execution_id(), key, count)
    heard = [await Signal(key).receive() for _ in range(count)]
    await call
    return heard


async def _again(program: list[Any]) -> None:
    continue_as_new(program)


_STEPS: dict[str, Any] = {
    "do": _do,
    "sleep": _sleep,
    "signal": _signal,
    "outside": ask_outside,
    "unanswered": _unanswered,
    "hang": hang,
    "beat": beat,
    "once": _once,
    "set": _set,
    "patch": _patch,
    "send": _send,
    "break": break_down,
    "all": _all,
    "first": _first,
    "within": _within,
    "try": _try,
    "undo": _undo,
    "finally": _finally,
    "child": _child,
    "leave": _leave,
    "drop": _drop,
    "chat": _chat,
    "again": _again,
}


@workflow
async def tell(to: str, name: str, count: int) -> None:
    """Tell another execution numbers."""
    for n in range(count):
        Signal(name).send(to, n)
        await do(f"{name}-{n}")


@workflow
async def collect(received: list[str]) -> list[str]:
    """Receive values until the last one, a few in each run."""
    for _ in range(3):
        value = await number.receive()
        if value == "last":
            return received
        received.append(value)
    return continue_as_new(received)


# --- the `def` workflow ---------------------------------------------------------------------------------------------


@workflow
def plain(program: list[Any]) -> list[Any]:
    return plain_block(program)


def plain_block(steps: list[Any]) -> list[Any]:
    return [_PLAIN_STEPS[name](*arguments) for name, *arguments in steps]


def _plain_sleep(seconds: float) -> str:
    sleep(seconds)
    return "slept"


def _plain_set(key: str) -> str:
    state[key] = key
    return key


def _plain_try(steps: list[Any]) -> Any:
    try:
        return plain_block(steps)
    except Broken:
        return "caught"


def _plain_undo(keys: list[str], steps: list[Any], broken: bool) -> Any:
    try:
        with Saga() as saga:
            for key in keys:
                saga.add(do, f"undo {key}")
                do_in_thread(key)
            result = plain_block(steps)
            if broken:
                raise Broken("undo")
            return result
    except Broken:
        return "undone"


def _plain_finally(key: str, steps: list[Any]) -> Any:
    try:
        return plain_block(steps)
    finally:
        do_in_thread(key)


def _plain_submit(keys: list[str]) -> list[str]:
    return [call.result() for call in [do.submit(key) for key in keys]]


_PLAIN_STEPS: dict[str, Any] = {
    "do": lambda key, how, fails, wait_s: begin(how, key, fails, wait_s).result(),
    "sleep": _plain_sleep,
    "signal": lambda name: Signal(name).receive().result(),
    "outside": lambda key: ask_outside.submit(key).result(),
    "set": _plain_set,
    "patch": lambda patch_id: do_in_thread(patch_id) if patched(patch_id) else "the code before",
    "break": lambda key: break_down.submit(key).result(),
    "try": _plain_try,
    "undo": _plain_undo,
    "finally": _plain_finally,
    "submit": _plain_submit,
    "child": lambda kind, program: plain(program),
    "again": lambda program: continue_as_new(program),
}

WORKFLOWS: list[Any] = [play, plain, tell, collect]
