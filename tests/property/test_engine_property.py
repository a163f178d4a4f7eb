"""Programs on real engines: eviction after every step and restarts at any moment change no result."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import Counter
from pathlib import Path
from typing import Any

from engine_jobs import WORKFLOWS, check_histories, database, everything, jobs, named, outcomes, start_all
from hypothesis import given
from hypothesis import strategies as st
from program_activities import effects
from program_interpreter import interpret
from property_settings import tries
from workflow_programs import SIGNALS, racing_programs, seeds

from perdure import Engine, Execution, NonDeterminismError
from perdure.errors import ExecutionClosed
from perdure.types import Status

# --- eviction -------------------------------------------------------------------------------------------------------


async def run_once(path: Path, jobs: dict[str, tuple[Any, Any]], hot: int) -> tuple[Any, Counter[Any], Any]:
    effects.clear()
    async with Engine(path, workflows=WORKFLOWS, hot=hot) as engine:
        await start_all(engine, jobs)
        found = await outcomes(engine, jobs)
        state = {id: await engine.execution(id).state() for id in jobs}
        await check_histories(engine)
    return found, effects.seen, state


@tries(25, shrink=False)
@given(jobs)
def test_eviction_after_every_step_changes_neither_results_nor_effects(drawn):
    mine = named(drawn)
    with database() as path:
        kept = asyncio.run(run_once(path, mine, 10_000))
    with database() as path:
        evicted = asyncio.run(run_once(path, mine, 0))
    assert evicted == kept


# --- restarts -------------------------------------------------------------------------------------------------------


async def run_until(path: Path, jobs: dict[str, tuple[Any, Any]], moment: int, start: bool, hot: int) -> bool:
    """Run until so many effects have happened, then leave without grace; give whether all work was done before."""
    reached = asyncio.Event()
    left = [moment]

    def count() -> None:
        left[0] -= 1
        if left[0] <= 0:
            loop.call_soon_threadsafe(reached.set)

    loop = asyncio.get_running_loop()
    effects.watch = count
    async with Engine(path, workflows=WORKFLOWS, grace_s=0, hot=hot) as engine:
        if start:
            await start_all(engine, jobs)
        done = asyncio.ensure_future(outcomes(engine, jobs))
        await asyncio.wait([done, asyncio.ensure_future(reached.wait())], return_when=asyncio.FIRST_COMPLETED)
        over = done.done()
        done.cancel()
        await asyncio.wait([done])
    return over


async def finish(path: Path, jobs: dict[str, tuple[Any, Any]]) -> Any:
    effects.watch = None
    async with Engine(path, workflows=WORKFLOWS) as engine:
        found = await outcomes(engine, jobs)
        await check_histories(engine)
    return found


@tries(15, shrink=False)
@given(jobs, seeds)
def test_restarts_at_any_moment_change_no_result(drawn, seed):
    mine, choose = named(drawn), random.Random(seed)
    with database() as path:
        expected, _, _ = asyncio.run(run_once(path, mine, 10_000))
    with database() as path:
        first = True
        for _ in range(choose.randint(1, 4)):
            over = asyncio.run(run_until(path, mine, choose.randint(1, 8), first, choose.choice([0, 10_000])))
            first = False
            if over:
                break
        assert asyncio.run(finish(path, mine)) == expected


# --- anything goes ----------------------------------------------------------------------------------------------------


async def run_racing(path: Path, jobs: dict[str, tuple[Any, Any]], choose: random.Random) -> None:
    async with Engine(path, workflows=WORKFLOWS, hot=choose.choice([0, 0, 2, 10_000])) as engine:
        await start_all(engine, jobs)
        for id in jobs:
            with contextlib.suppress(ExecutionClosed):
                await disturb(engine.execution(id), choose)
        for id in jobs:
            await end(engine, id)
            if (await engine.describe(id)).status is Status.FAILED and choose.random() < 0.5:
                await engine.execution(id).retry()
                await end(engine, id)
        for info in await everything(engine):
            if not info.status.closed:
                await end(engine, info.id)
        await check_histories(engine)
        assert all(info.status in ENDED for info in await everything(engine))


async def disturb(execution: Execution[Any], choose: random.Random) -> None:
    """Do to an execution what people do."""
    match choose.randrange(5):
        case 0:
            await execution.cancel("enough")
        case 1:
            await execution.pause()
            await execution.signal(choose.choice(SIGNALS), "while it was paused")
            await execution.resume()
        case 2:
            await execution.pause()
            await execution.cancel("while it was paused")


ENDED = (Status.COMPLETED, Status.FAILED, Status.CANCELLED, Status.CONTINUED)


async def end(engine: Engine, id: str) -> None:
    """Wait for the end; cancel what waits forever."""
    execution = engine.execution(id)
    for timeout_s in (0.05, 10):
        try:
            await execution.result(timeout_s=timeout_s)
        except NonDeterminismError:
            raise
        except TimeoutError:
            assert timeout_s < 1, f"{id} does not end"
            with contextlib.suppress(Exception):
                await execution.cancel()
        except Exception:
            return
        else:
            return


@tries(15, shrink=False)
@given(st.lists(st.tuples(st.just(interpret), racing_programs), min_size=1, max_size=6), seeds)
def test_whatever_races_the_histories_replay_and_everything_ends(drawn, seed):
    with database() as path:
        asyncio.run(run_racing(path, named(drawn), random.Random(seed)))
