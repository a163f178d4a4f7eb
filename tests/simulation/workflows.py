"""What the simulated engines run: the workflow that plays any program of `programs.py`, and what programs talk to."""

from __future__ import annotations

import asyncio
from typing import Any

from perdure import Saga, Signal, continue_as_new, execution_id, patched, state, uuid4, workflow
from perdure.errors import ActivityTimeout, AttemptInterrupted
from simulation.activities import (
    Broken,
    ask_nobody,
    ask_outside,
    beat,
    begin,
    break_down,
    deployed,
    do,
    do_in_thread,
    do_once,
    hang,
)
from simulation.plain_workflow import plain, plain_before

COLLECTOR = "collector"
number = Signal("number", str)


@workflow
async def play(program: list[Any]) -> list[Any]:
    return await block(program)


@workflow(name="play")
async def play_before(program: list[Any]) -> list[Any]:
    """Play as the code before the last deployment did."""
    deployed.set(False)
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
    if deployed.get() and patched(patch_id):
        return await do(patch_id)
    return await do_in_thread.submit(patch_id)


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
        if len(received) % 2:
            await do(f"got {len(received)}", 0, 0.05)  # what comes meanwhile waits, and goes along to the next run
    return continue_as_new(received)


WORKFLOWS: list[Any] = [play, plain, tell, collect]
BEFORE: list[Any] = [play_before, plain_before, tell, collect]
