"""Two workers on one file: when the runner is killed, the one that stands by goes on with its work."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time

import pytest

from perdure import Client
from perdure.store.sqlite import RunnerLock

ROUNDS = 5
SLOWEST_S = 2.0
"""Far above the usual: a loaded machine may need its time to run a process at all."""


@pytest.mark.slow
@pytest.mark.timeout(int(os.environ.get("PERDURE_CRASH_ROUNDS") or ROUNDS) * 30 + 120)
async def test_the_standby_takes_over_when_the_runner_is_killed(site, rounds, until):
    kills = rounds(ROUNDS)
    takeovers: list[float] = []
    try:
        for worker in [await site.spawn(), await site.spawn()]:
            await site.ready(worker)
        async with Client(site.database) as client:
            await site.tick(client, 4)
            receivers = await site.start_collecting(client, "both")
            for number in range(kills):
                asking = asyncio.ensure_future(ask(site, client, receivers, number))
                takeovers.append(await kill_the_runner(site, until))
                await asking
                await site.ready(await site.spawn())
            await site.stop_working()
            executions = await site.check_results(client)
    finally:
        await site.kill_all()
    site.audit.look()
    figures = f"median {statistics.median(takeovers) * 1e3:.0f} ms, slowest {max(takeovers) * 1e3:.0f} ms"
    print(f"{kills} takeovers: {figures} from kill -9 to the next effect; {executions} executions, nothing lost")
    assert max(takeovers) < SLOWEST_S, figures


async def ask(site, client, receivers, number: int) -> None:
    await asyncio.gather(
        site.start_jobs(client, f"takeover-{number}", 3), site.send_numbers(receivers, number * 10, number * 10 + 10)
    )


async def kill_the_runner(site, until) -> float:
    """Kill the runner in the middle of its work; give the seconds until the other one's first effect."""
    lock = RunnerLock(site.database)
    runner = await until(lambda: next((w for w in site.workers if f'"pid": {w.pid},' in lock.holder()), None))
    assert json.loads(lock.holder())["pid"] == runner.pid
    await until(lambda: any(effect.pid == runner.pid for effect in site.audit.watch()))
    await site.kill_after(runner, site.choose.uniform(0, 0.2))
    killed_ns = time.time_ns()
    found: list[int] = []

    def taken_over() -> bool:
        found.extend(
            effect.at_ns for effect in site.audit.watch() if effect.pid != runner.pid and effect.at_ns > killed_ns
        )
        return bool(found)

    await until(taken_over)
    return (min(found) - killed_ns) / 1e9
