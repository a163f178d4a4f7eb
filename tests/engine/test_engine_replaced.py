"""A runner that was replaced in spite of the lock says nothing from its memory, and soon knows."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from typing import Any

from perdure import Engine, Signal, continue_as_new, state, workflow
from perdure.errors import EngineClosed, StoreError

go = Signal("go", str)
PATIENCE_S = 20.0


@workflow
async def waits() -> str:
    return await go.receive()


@workflow
async def counts(n: int) -> None:
    state["n"] = n
    await go.receive()
    continue_as_new(n + 1)


async def insist(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask until it is acknowledged: what was refused was not done."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await ask()
            except (StoreError, EngineClosed):
                await asyncio.sleep(0.01)


async def test_what_it_acknowledges_is_so_also_when_there_is_nothing_to_write(database):
    """In its memory the execution is not paused, so it took a resume for done."""
    async with Engine(database, workflows=[waits]) as stale:
        execution = await stale.start(waits, id="x")
        os.unlink(f"{database}-lock")
        async with Engine(database, workflows=[waits]) as fresh:
            await fresh.execution("x").pause()
            await insist(execution.resume)
            await fresh.execution("x").signal(go, "on")
            assert await fresh.execution("x").result(PATIENCE_S) == "on"


async def test_who_waits_at_it_hears_of_the_end_though_it_has_nothing_to_write(database):
    async with Engine(database, workflows=[waits]) as stale:
        waiter = asyncio.create_task((await stale.start(waits, id="x")).result())
        os.unlink(f"{database}-lock")
        async with Engine(database, workflows=[waits]) as fresh:
            await fresh.execution("x").signal(go, "on")
            assert await fresh.execution("x").result(PATIENCE_S) == "on"
            assert await asyncio.wait_for(waiter, PATIENCE_S) == "on"
            assert not stale.leading


async def test_state_that_it_reads_is_that_of_the_file(database, until):
    async with Engine(database, workflows=[counts]) as stale:
        execution = await stale.start(counts, 1, id="x")
        await until(execution.state)
        os.unlink(f"{database}-lock")
        async with Engine(database, workflows=[counts]) as fresh:
            await fresh.execution("x").signal(go, "on")
            await until(lambda: fresh.store.find("x").run == 2)
            assert await execution.state() == await fresh.execution("x").state() == {"n": 2}
