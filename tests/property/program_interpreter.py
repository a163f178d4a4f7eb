"""The `async def` workflow that runs any program of `workflow_programs.py`."""

from __future__ import annotations

import asyncio
from typing import Any

from program_activities import act, act_in_thread, act_in_transaction
from program_def_interpreter import interpret_def

from perdure import Saga, Signal, continue_as_new, now, patched, random, state, uuid4, workflow


@workflow
async def interpret(program: list[Any]) -> list[Any]:
    return await block(program)


async def block(steps: list[Any]) -> list[Any]:
    return [await _STEPS[name](*arguments) for name, *arguments in steps]


async def _wait_forever() -> None:
    await asyncio.Event().wait()


async def _yield() -> None:
    await asyncio.sleep(0)


async def _sleep(ms: int) -> None:
    await asyncio.sleep(ms / 1000)


async def _receive(name: str) -> Any:
    return await Signal(name).receive()


async def _set(key: str, value: Any) -> None:
    state[key] = value


async def _unset(key: str) -> None:
    state[key] = 1
    del state[key]


async def _draw() -> list[Any]:
    return [random().random(), uuid4().hex]


async def _now() -> str:
    return now().isoformat()


async def _thread(key: str) -> str:
    return await asyncio.to_thread(act_in_thread, key)


async def _transaction(key: str) -> str:
    return await act_in_transaction.submit(key)


async def _try(steps: list[Any]) -> Any:
    try:
        return await block(steps)
    except Exception as error:
        return ["caught", type(error).__name__]


async def _cleanup(key: str, steps: list[Any]) -> Any:
    try:
        return await block(steps)
    finally:
        await act(key)


async def _timeout(ms: int, steps: list[Any]) -> Any:
    try:
        async with asyncio.timeout(ms / 1000):
            return await block(steps)
    except TimeoutError:
        return "late"


async def _wait_for(ms: int, steps: list[Any]) -> Any:
    task = asyncio.ensure_future(block(steps))  # a bare one is never awaited if the timer raises
    try:
        return await asyncio.wait_for(task, ms / 1000)
    except TimeoutError:
        return "late"


async def _gather(branches: list[Any]) -> list[Any]:
    return await asyncio.gather(*(block(steps) for steps in branches))


async def _group(branches: list[Any]) -> list[Any]:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(block(steps)) for steps in branches]
    return [task.result() for task in tasks]


async def _as_completed(branches: list[Any]) -> list[Any]:
    results = [await done for done in asyncio.as_completed([block(steps) for steps in branches])]
    return sorted(results, key=str)


async def _first(branches: list[Any]) -> Any:
    """Wait for the first, cancel the others in the order that the set gives them."""
    tasks = [asyncio.create_task(block(steps)) for steps in branches]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    left = await asyncio.gather(*pending, return_exceptions=True)
    return [[task.result() for task in done], sorted(type(outcome).__name__ for outcome in left)]


async def _scope(victim: list[Any], steps: list[Any]) -> Any:
    """Cancel one block from another."""
    task = asyncio.create_task(block(victim))
    await asyncio.sleep(0)
    try:
        return await block(steps)
    finally:
        task.cancel()
        await asyncio.wait([task])
        if not task.cancelled():
            task.exception()


async def _flat(steps: list[Any]) -> list[Any]:
    """Run steps side by side and give their results."""
    return [results[0] for results in await asyncio.gather(*(block([step]) for step in steps))]


async def _shield(steps: list[Any]) -> Any:
    return await asyncio.shield(block(steps))


async def _orphan(steps: list[Any]) -> None:
    """Leave a task behind, which the end of the workflow cancels."""
    task = asyncio.create_task(block(steps))
    task.add_done_callback(lambda done: done.cancelled() or done.exception())


async def _limited(limit: asyncio.Lock | asyncio.Semaphore, steps: list[Any]) -> Any:
    async with limit:
        return await block(steps)


async def _lock(branches: list[Any]) -> list[Any]:
    lock = asyncio.Lock()
    return await asyncio.gather(*(_limited(lock, steps) for steps in branches))


async def _semaphore(branches: list[Any]) -> list[Any]:
    semaphore = asyncio.Semaphore(2)
    return await asyncio.gather(*(_limited(semaphore, steps) for steps in branches))


async def _barrier(branches: list[Any]) -> list[Any]:
    """Let each branch wait for all of them, with a Condition."""
    condition, arrived = asyncio.Condition(), []

    async def branch(steps: list[Any]) -> Any:
        result = await block(steps)
        async with condition:
            arrived.append(1)
            condition.notify_all()
            await condition.wait_for(lambda: len(arrived) == len(branches))
        return result

    return await asyncio.gather(*(branch(steps) for steps in branches))


async def _queue(size: int, steps: list[Any]) -> list[Any]:
    """Produce the block's results on one side of a bounded queue, consume them on the other."""
    queue: asyncio.Queue[Any] = asyncio.Queue(size)

    async def produce() -> None:
        for step in steps:
            await queue.put(await _try([step]))
        await queue.put(None)

    async def consume() -> list[Any]:
        taken: list[Any] = []
        while (item := await queue.get()) is not None:
            taken.append(item)
        return taken

    return (await asyncio.gather(produce(), consume()))[1]


async def _saga(undo: list[str], steps: list[Any]) -> Any:
    async with Saga() as saga:
        for key in undo:
            saga.add(act_in_thread, key)
        return await block(steps)


async def _patched(patch_id: str, steps: list[Any]) -> Any:
    return await block(steps) if patched(patch_id) else "the code before"


async def _child(kind: str, signals: list[str], program: list[Any]) -> Any:
    if kind == "async" and not signals:
        return await interpret(program)
    call = (interpret if kind == "async" else interpret_def).submit(program)
    for name in signals:
        Signal(name).send(call.execution_id or "", name)
    return await call


async def _abandon(program: list[Any]) -> None:
    """Start a child that outlives its parent."""
    interpret.options(on_parent_end="abandon").submit(program)


async def _again(rest: list[Any]) -> None:
    continue_as_new(rest)


_STEPS: dict[str, Any] = {
    "act": act,
    "thread": _thread,
    "transaction": _transaction,
    "never": _wait_forever,
    "yield": _yield,
    "sleep": _sleep,
    "receive": _receive,
    "set": _set,
    "unset": _unset,
    "draw": _draw,
    "now": _now,
    "try": _try,
    "cleanup": _cleanup,
    "timeout": _timeout,
    "wait_for": _wait_for,
    "gather": _gather,
    "flat": _flat,
    "group": _group,
    "as_completed": _as_completed,
    "first": _first,
    "scope": _scope,
    "shield": _shield,
    "orphan": _orphan,
    "lock": _lock,
    "semaphore": _semaphore,
    "barrier": _barrier,
    "queue": _queue,
    "saga": _saga,
    "patched": _patched,
    "child": _child,
    "abandon": _abandon,
    "again": _again,
}
