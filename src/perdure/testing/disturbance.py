"""Carrying out a schedule in an environment, and noting what there was that could be disturbed.

Each attempt takes a virtual millisecond at least, so that what is asked for right after a commit reaches the execution
while the attempts run that the commit started.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from perdure.activity import ActivityOptions
from perdure.errors import ExecutionClosed, ExecutionNotFound
from perdure.testing.calls import ActivityCall, Fault
from perdure.testing.commits import Commit
from perdure.testing.environment import Environment
from perdure.testing.schedule import Mishap, Schedule, What

LATENCY_S = 0.001
LONGER_S = 3600.0
SPREAD_S = (0.0, 0.0, 0.001, 0.002, 0.005, 0.01, 1.0)
"""What is drawn from under `shuffle`: mostly short, and often the same, so that some end together."""
HUNG_S = 1.0
"""How long an attempt keeps its answer back after `cancel-in`."""
EXPLORED = "explored"
"""The id of the execution."""


class SimulatedFailure(ConnectionError):
    """What an attempt raises under `fail` and `fail-after`."""


@dataclass
class Shape:
    """What a run consisted of: how many commits, and which calls of activities, with their options."""

    commits: int = 0
    calls: dict[tuple[str, int], ActivityOptions] = field(default_factory=dict)

    def add(self, other: Shape) -> None:
        self.commits = max(self.commits, other.commits)
        self.calls |= other.calls


class Disturbance:
    """See the module. `shape` is what the run under this schedule consisted of."""

    def __init__(self, environment: Environment, schedule: Schedule, errors: Mapping[str, BaseException]) -> None:
        self.environment = environment
        self.schedule = schedule
        self.errors = errors
        self.shape = Shape()
        self._keys: dict[str, tuple[str, int]] = {}
        """By idempotency key which call of its activity it is."""
        self._shuffle = next((mishap.at for mishap in schedule.mishaps if mishap.what is What.SHUFFLE), None)
        self._at = {(mishap.what, mishap.at): mishap for mishap in schedule.mishaps}
        environment.on_commit = self._committed
        environment.on_attempt = self._begins
        environment.on_effect = self._took_effect

    def _committed(self, commit: Commit) -> None:
        if commit.before:
            self.shape.commits = commit.number
            if (What.CRASH_BEFORE, commit.number) in self._at:
                self.environment.crash(restart_after_s=0.0)
        elif commit.number == self.shape.commits and commit.number > 0:
            if (What.CANCEL, commit.number) in self._at:
                self._cancel()
            if self._at.pop((What.CRASH_AFTER, commit.number), None) is not None:
                self.environment.crash(restart_after_s=0.0)

    def _cancel(self) -> None:
        with contextlib.suppress(ExecutionClosed, ExecutionNotFound):
            self.environment.cancel(EXPLORED, "explore")

    def _begins(self, call: ActivityCall) -> Fault:
        place = self._place(call)
        self.shape.calls.setdefault(place, call.options)
        fault = Fault(delay_s=LATENCY_S + self._shuffled(call))
        for mishap in self._mishaps(place, call.attempt):
            error = self.errors.get(call.activity) or SimulatedFailure("a simulated failure")
            fault = _worse(fault, mishap, error, call.options)
        return fault

    def _shuffled(self, call: ActivityCall) -> float:
        """Draw how much longer an attempt takes, whatever else happens."""
        if self._shuffle is None:
            return 0.0
        return random.Random(f"{self._shuffle}:{call.idempotency_key}:{call.attempt}").choice(SPREAD_S)

    def _place(self, call: ActivityCall) -> tuple[str, int]:
        """Say which call of its activity an attempt belongs to, counted from 1."""
        known = self._keys.get(call.idempotency_key)
        if known is None:
            number = 1 + sum(activity == call.activity for activity, _ in self._keys.values())
            known = self._keys[call.idempotency_key] = (call.activity, number)
        return known

    def _mishaps(self, place: tuple[str, int], attempt: int) -> Iterator[Mishap]:
        for mishap in self.schedule.mishaps:
            if (mishap.activity, mishap.call) == place and attempt <= mishap.times:
                yield mishap

    async def _took_effect(self, call: ActivityCall) -> None:
        for mishap in self._mishaps(self._place(call), call.attempt):
            if mishap.what is What.CANCEL_IN:
                self._cancel()
                await asyncio.sleep(HUNG_S)


def _worse(fault: Fault, mishap: Mishap, error: BaseException, options: ActivityOptions) -> Fault:
    """Give what goes wrong with an attempt that `mishap` befalls as well. Of two failures the last one counts."""
    match mishap.what:
        case What.FAIL:
            return Fault(error, "before", fault.twice, fault.delay_s)
        case What.FAIL_AFTER:
            return Fault(error, "after", fault.twice, fault.delay_s)
        case What.TIMEOUT:
            return Fault(None, "before", fault.twice, fault.delay_s)
        case What.TIMEOUT_AFTER:
            return Fault(None, "after", fault.twice, fault.delay_s)
        case What.TWICE:
            return Fault(fault.error, fault.when, True, fault.delay_s)
        case What.DELAY:
            return Fault(fault.error, fault.when, fault.twice, fault.delay_s + _longer(options))
        case _:
            return fault


def limits(options: ActivityOptions) -> list[float]:
    """Give the time limits of an attempt, in seconds."""
    named = (options.timeout_s, options.heartbeat_timeout_s, options.total_timeout_s)
    return [limit for limit in named if limit is not None]


def _longer(options: ActivityOptions) -> float:
    """Give a long time, within the limits."""
    return min([LONGER_S, *(limit / 2 for limit in limits(options))])
