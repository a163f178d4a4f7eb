"""Heartbeat limits over long times and odd instants. Found by exploring: an attempt asked for ever, at one instant."""

from __future__ import annotations

import asyncio
import random

from perdure import activity, current_attempt, workflow
from perdure.engine.attempt import Attempt
from perdure.engine.limits import Limits
from perdure.testing import Environment


@activity(heartbeat_timeout_s=5)
async def watched() -> int:
    raise NotImplementedError


@workflow
async def watching() -> int:
    return await watched()


class StandingLoop:
    """A loop whose clock stands still, and that says what it is asked to call later."""

    def __init__(self, at: float) -> None:
        self.at = at
        self.delays: list[float] = []

    def time(self) -> float:
        return self.at

    def get_debug(self) -> bool:
        return False

    def call_later(self, delay_s, callback, *args):
        self.delays.append(delay_s)
        return asyncio.TimerHandle(self.at + delay_s, callback, args, self)


def test_a_limit_is_over_where_floats_do_not_add_up():
    draw = random.Random(1)
    for _ in range(2_000):
        beat_at_us = draw.randrange(10**7, 10**11)
        attempt = Attempt(None, 1, watched, "{}", 0)
        attempt.beat_at = beat_at_us / 1e6
        loop = StandingLoop((beat_at_us + 5_000_000) / 1e6)
        expired = []
        limits = Limits(loop, lambda: 0, {attempt: None}, lambda attempt, error, expired=expired: expired.append(error))
        limits._look_for_beat(attempt)
        assert loop.delays == [], f"5 s after {beat_at_us} µs it is asked again in {loop.delays} s"
        assert "ran into heartbeat_timeout_s=5" in str(expired[0])


def test_an_attempt_that_runs_for_days_does_not_gather_alarms():
    alarms = []

    async def work() -> int:
        for _ in range(2_000):
            await asyncio.sleep(4)
            current_attempt().heartbeat()
            alarms.append(len(current_attempt().alarms))
        return max(alarms)

    with Environment([watching]) as env:
        env.fake(watched, work)
        assert env.start(watching).result() <= 2
