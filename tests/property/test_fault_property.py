"""Commits that fail: what was acknowledged stays, what ran ahead is dropped and comes again, results do not change."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import apsw
from engine_jobs import WORKFLOWS, check_histories, database, jobs, named, outcomes
from hypothesis import given
from program_activities import effects
from property_settings import tries
from workflow_programs import receives, seeds

from perdure import Engine
from perdure.errors import EngineClosed, ExecutionClosed, StoreError
from perdure.store.sqlite import SqliteStore

Meddle = Callable[[Engine], Awaitable[None]]
REFUSAL = "CREATE TEMP TRIGGER fault BEFORE INSERT ON perdure_event BEGIN SELECT give_out(); END"


async def insist(ask: Callable[[], Awaitable[Any]]) -> Any:
    """Ask again until it is acknowledged: what was refused was not written."""
    while True:
        try:
            return await ask()
        except (StoreError, EngineClosed):  # closed: it has just lost the lead
            await asyncio.sleep(0)


async def start_all(engine: Engine, jobs: dict[str, tuple[Any, Any]]) -> None:
    for id, (workflow, program) in jobs.items():
        execution = await insist(lambda w=workflow, p=program, i=id: engine.start(w, p, id=i))
        for name in receives(program):
            with contextlib.suppress(ExecutionClosed):
                await insist(lambda e=execution, n=name: e.signal(n, n))


async def run(path: Path, jobs: dict[str, tuple[Any, Any]], meddle: Meddle | None, moments: list[int]) -> Any:
    """Run jobs; after so many effects each, do what `meddle` does."""
    loop, left, meddling = asyncio.get_running_loop(), list(moments), []
    effects.clear()

    def count() -> None:
        if left and meddle is not None:
            left[0] -= 1
            if left[0] <= 0:
                left.pop(0)
                loop.call_soon_threadsafe(lambda: meddling.append(asyncio.ensure_future(meddle(engine))))

    async with Engine(path, workflows=WORKFLOWS, grace_s=0) as engine:
        effects.watch = count
        await start_all(engine, jobs)
        found = await outcomes(engine, jobs)
        effects.watch = None
        await asyncio.gather(*meddling)
        await check_histories(engine)
        state = {id: await engine.execution(id).state() for id in jobs}
    return found, state


async def refuse_commits(engine: Engine, error: type[apsw.Error], times: int) -> None:
    """Make the next commits fail in the middle of their writing, as a disk does."""

    def give_out() -> None:
        raise error("no")

    runner, store = engine._runner, engine._runner_store
    assert runner is not None
    assert store is not None
    store.writer.connection.create_scalar_function("give_out", give_out, 0)
    store.writer.connection.execute("DROP TRIGGER IF EXISTS temp.fault;" + REFUSAL)
    with contextlib.suppress(TimeoutError):  # nothing was left to write
        async with asyncio.timeout(0.5):
            while runner.faults.count < times:
                await asyncio.sleep(0.001)
    store.writer.connection.execute("DROP TRIGGER IF EXISTS temp.fault")


async def steal_the_lead(engine: Engine) -> None:
    """Let another process say that it is the runner, as one would that got the lock on another machine."""
    thief = SqliteStore(engine.path)
    thief.become_runner("a thief")
    thief.close()


@tries(20, shrink=False)
@given(jobs, seeds)
def test_commits_that_fail_change_no_result(drawn, seed):
    mine, choose = named(drawn), random.Random(seed)
    moments = [choose.randint(1, 6) for _ in range(choose.randint(1, 3))]
    error = choose.choice([apsw.FullError, apsw.IOError, apsw.BusyError])

    async def meddle(engine: Engine) -> None:
        await refuse_commits(engine, error, choose.choice([1, 1, 2]))

    with database() as path:
        expected = asyncio.run(run(path, mine, None, []))
    with database() as path:
        assert asyncio.run(run(path, mine, meddle, moments)) == expected


@tries(8, shrink=False)
@given(jobs, seeds)
def test_losing_the_lead_at_any_moment_changes_no_result(drawn, seed):
    mine, choose = named(drawn), random.Random(seed)
    moments = [choose.randint(1, 3) for _ in range(choose.randint(1, 2))]
    with database() as path:
        expected = asyncio.run(run(path, mine, None, []))
    with database() as path:
        assert asyncio.run(run(path, mine, steal_the_lead, moments)) == expected
