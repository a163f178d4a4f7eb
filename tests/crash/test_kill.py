"""`kill -9` at any moment loses nothing that was acknowledged and repeats nothing that was done."""

from __future__ import annotations

import asyncio
import os

import pytest

from perdure import Client

ROUNDS = 8
JOBS_PER_ROUND = 8
NUMBERS_PER_ROUND = 15


@pytest.mark.slow
@pytest.mark.timeout(int(os.environ.get("PERDURE_CRASH_ROUNDS") or ROUNDS) * 30 + 120)
async def test_a_worker_that_is_killed_over_and_over(site, rounds):
    kills = rounds(ROUNDS)
    try:
        first = await site.spawn("idle")
        await site.ready(first)
        async with Client(site.database) as client:
            await site.kill(first)
            for number in range(kills):
                await play_round(site, client, number)
            await site.ready(await site.spawn("idle"))
            executions = await site.check_results(client)
    finally:
        await site.kill_all()
    site.audit.look()
    site.check_cleanups()
    print(
        f"{kills} kills, {executions} executions, {site.audit.effects} effects, {site.audit.repeated} of them in a "
        "second or later attempt; nothing lost, nothing done again"
    )


async def play_round(site, client, number: int) -> None:
    """Run a worker for a moment while this process starts and signals, kill it, look at what it left."""
    worker = await site.spawn()
    asking = asyncio.ensure_future(ask(site, client, number))
    if site.choose.random() < 0.75:
        await site.ready(worker)
        delay_s = site.choose.uniform(0.0, 0.8)
    else:  # while it opens the file or recovers
        delay_s = site.choose.uniform(0.0, 0.5)
    await site.kill_after(worker, delay_s)
    if site.choose.random() < 0.5:
        await asking  # with no worker at all
    site.audit.look()
    await asking


async def ask(site, client, number: int) -> None:
    receivers = await site.start_collecting(client, f"round-{number}")
    await asyncio.gather(
        site.start_jobs(client, f"round-{number}", JOBS_PER_ROUND),
        site.send_numbers(receivers, 0, NUMBERS_PER_ROUND),
        site.cancel_one(client, f"round-{number}-guarded"),
    )
    await site.answer(client)
