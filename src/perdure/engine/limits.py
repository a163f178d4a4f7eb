"""The time limits of attempts: alarms on the loop's clock.

    handed in                                 started
──────▶ start_timeout_s, total_timeout_s ──────▶ timeout_s, total_timeout_s, heartbeat_timeout_s
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container

from perdure.activity import ActivityOptions
from perdure.engine.attempt import Attempt
from perdure.errors import ActivityTimeout

NEAR_S = 0.001
"""What is left of a limit when it is over all the same: floats do not add up exactly, and to wait for the rest would be
to ask again at once, on a loop whose clock stands still until then without end."""


class Limits:
    """See the module. `running` holds the attempts that have not answered; `expired` hears of those that ran out of
    time. `now` gives microseconds since 1970."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        now: Callable[[], int],
        running: Container[Attempt],
        expired: Callable[[Attempt, ActivityTimeout], None],
    ) -> None:
        self.loop = loop
        self.now = now
        self.running = running
        self.expired = expired

    def handed_in(self, attempt: Attempt) -> None:
        """Limit the time that an attempt waits for its place. On the loop's thread."""
        options = attempt.activity_def.defaults
        if options.start_timeout_s is not None and attempt.number == 1:
            self._set(attempt, self._left(attempt, options.start_timeout_s), "start_timeout_s")
        if options.total_timeout_s is not None:
            self._set(attempt, self._left(attempt, options.total_timeout_s), "total_timeout_s")

    def started(self, attempt: Attempt) -> None:
        """Limit an attempt that has its place now. On the loop's thread."""
        attempt.disarm()
        if attempt not in self.running:
            return
        options = attempt.activity_def.defaults
        attempt.beat_at = self.loop.time()
        if options.timeout_s is not None:
            self._set(attempt, options.timeout_s, "timeout_s")
        if options.total_timeout_s is not None:
            self._set(attempt, self._left(attempt, options.total_timeout_s), "total_timeout_s")
        if options.heartbeat_timeout_s is not None:
            self._watch(attempt, options.heartbeat_timeout_s)

    def _left(self, attempt: Attempt, limit_s: float) -> float:
        return max(limit_s - (self.now() - attempt.scheduled_at) / 1e6, 0)

    def _set(self, attempt: Attempt, delay_s: float, limit: str) -> None:
        attempt.alarms.append(self.loop.call_later(delay_s, self._expire, attempt, limit))

    def _watch(self, attempt: Attempt, delay_s: float) -> None:
        now = self.loop.time()
        attempt.alarms[:] = [alarm for alarm in attempt.alarms if alarm.when() > now]  # a long attempt has many in turn
        attempt.alarms.append(self.loop.call_later(delay_s, self._look_for_beat, attempt))

    def _look_for_beat(self, attempt: Attempt) -> None:
        limit_s = attempt.activity_def.defaults.heartbeat_timeout_s or 0
        left = attempt.beat_at + limit_s - self.loop.time()
        if left < NEAR_S:
            self._expire(attempt, "heartbeat_timeout_s")
        elif attempt in self.running:
            self._watch(attempt, left)

    def _expire(self, attempt: Attempt, limit: str) -> None:
        if attempt in self.running:
            seconds = getattr(attempt.activity_def.defaults, limit)
            text = f"{attempt.activity} (attempt {attempt.number}) ran into {limit}={seconds:g}"
            self.expired(attempt, ActivityTimeout(text, limit=limit))


def limited(options: ActivityOptions) -> bool:
    """Say whether there is any limit."""
    return not (
        options.timeout_s is None
        and options.total_timeout_s is None
        and options.start_timeout_s is None
        and options.heartbeat_timeout_s is None
    )
