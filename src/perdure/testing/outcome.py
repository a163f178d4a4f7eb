"""How one run under a schedule ended, for a predicate to judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from perdure.activity import Activity
from perdure.testing.calls import ActivityCall
from perdure.testing.schedule import Schedule
from perdure.types import Status


@dataclass(frozen=True)
class Effect:
    """One time that an activity took effect. Attempts of one call share their `key`: a service that removes duplicates
    by it lets the first of them count only."""

    activity: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    execution_id: str
    attempt: int
    key: str
    at: datetime

    def __str__(self) -> str:
        given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        return f"{self.activity}({', '.join(given)}) by {self.execution_id}, attempt {self.attempt}, key {self.key}"


@dataclass
class Outcome:
    """What became of the execution, of its children and of the world.

    `result` is there when `status` is `completed`, `error` when it failed or was cancelled. `effects` is the ledger:
    everything that took effect, in order, also what is not in any history. `calls` has all attempts. `world` is what
    `setup` gave.
    """

    schedule: Schedule
    status: Status
    result: Any = None
    error: BaseException | None = None
    effects: list[Effect] = field(default_factory=list)
    calls: list[ActivityCall] = field(default_factory=list)
    world: Any = None
    timeline: str = ""

    @property
    def ending(self) -> str:
        """Say in words how it ended."""
        if self.error is not None:
            return f"ended as {self.status} with {type(self.error).__name__}: {self.error}"
        if self.status is Status.COMPLETED:
            return f"completed with {self.result!r}"
        return f"ended as {self.status}" if self.status.closed else f"is {self.status}"

    def of(self, activity: Activity[..., Any, Any] | str) -> list[Effect]:
        """Give the effects of one activity."""
        name = activity if isinstance(activity, str) else activity.name
        return [effect for effect in self.effects if effect.activity == name]

    def count(self, activity: Activity[..., Any, Any] | str) -> int:
        """Count how often an activity took effect, duplicates included."""
        return len(self.of(activity))

    def distinct(self, activity: Activity[..., Any, Any] | str) -> int:
        """Count how often it took effect for a service that removes duplicates by the idempotency key."""
        return len({effect.key for effect in self.of(activity)})


def effects_of(calls: Sequence[ActivityCall]) -> list[Effect]:
    return [
        Effect(call.activity, call.args, call.kwargs, call.execution_id, call.attempt, call.idempotency_key, call.at)
        for call in calls
        for _ in range(call.effects)
    ]
