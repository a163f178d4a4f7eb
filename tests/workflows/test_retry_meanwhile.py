"""Retrying a failed execution while something else happens to it."""

from __future__ import annotations

import asyncio
import contextlib

from perdure import Engine, PerdureError, Signal, activity, workflow
from perdure.errors import ExecutionTimedOut
from perdure.testing import Environment

go = Signal("go", str)
PATIENCE_S = 20.0


class Broken(Exception):
    pass


@workflow
async def fails(text: str) -> str:
    if text == "fails":
        raise Broken
    return await go.receive()


async def test_an_execution_that_is_retried_is_not_replaced_in_the_same_moment(database):
    async with Engine(database, workflows=[fails]) as engine:
        execution = await engine.start(fails, "fails", id="x")
        with contextlib.suppress(Broken):
            await execution.result(PATIENCE_S)
        retry = asyncio.ensure_future(execution.retry())
        other = asyncio.ensure_future(engine.start(fails, "waits", id="x", on_conflict="replace"))
        await asyncio.wait([retry, other])
        runs = [await engine.describe("x", run) for run in range(1, (await engine.describe("x")).run + 1)]
        assert sum(not info.status.closed for info in runs) <= 1
        assert isinstance(other.exception(), PerdureError) or isinstance(retry.exception(), PerdureError)


@activity
async def slow() -> str:
    await asyncio.sleep(100)
    return "slow"


@workflow
async def waits_long() -> list[str]:
    return list(await asyncio.gather(slow(), go.receive()))


def test_a_crash_after_a_retry_is_noted_behind_what_came_since():
    """A signal that nobody waits for yet led to no command: it looked like the input that the retry gives again."""
    with Environment(workflows=[waits_long], real=True) as env:
        execution = env.start(waits_long, id="x", timeout_s=10)
        with contextlib.suppress(ExecutionTimedOut):
            execution.result()
        execution.retry()
        env.signal("other", 1, to="x")
        env.crash()
        env.restart()
        env.signal(go, "on", to="x")
        assert execution.result() == ["slow", "on"]
