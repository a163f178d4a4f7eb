"""A restart between two attempts resets neither their count nor their errors nor what their heartbeats said."""

from __future__ import annotations

import asyncio
from pathlib import Path

from perdure import Client, Engine, Retry, activity, current_attempt, workflow


@activity(retry=Retry(attempts=3, initial_s=0.2, jitter=False))
async def third_time_lucky() -> list[int]:
    attempt = current_attempt()
    attempt.heartbeat({"attempt": attempt.number})
    if attempt.number < 3:
        raise ConnectionError(f"attempt {attempt.number}")
    return [attempt.number, attempt.last_details["attempt"]]


@workflow
async def lucky() -> list[int]:
    return await third_time_lucky()


async def failed_attempts(client: Client, count: int) -> None:
    async def watch() -> None:
        while [event.kind async for event in client.execution("x").history()].count("attempt_failed") < count:
            await asyncio.sleep(0.01)

    await asyncio.wait_for(watch(), 20)


def test_attempts_go_on_where_they_were(tmp_path: Path) -> None:
    async def main() -> list[int]:
        for count in (1, 2):
            async with Engine(tmp_path / "a.db", [lucky]) as engine:
                await engine.start(lucky, id="x")
                await failed_attempts(engine, count)
        async with Engine(tmp_path / "a.db", [lucky]) as engine:
            return await engine.execution("x", lucky).result(timeout_s=20)

    assert asyncio.run(main()) == [3, 2]
