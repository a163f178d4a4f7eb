"""What happened to activities in a simulated environment: one record for each attempt."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

from perdure.activity import ActivityOptions

Outcome = Literal["running", "returned", "raised", "cancelled", "interrupted"]


@dataclass(eq=False)
class ActivityCall:
    """One attempt of an activity, as its fake (or the activity itself) saw it.

    `attempt` is 1 for the first; all attempts of a call have its `idempotency_key`. `at` is the virtual instant at
    which it began. `outcome` is `running`, `returned` (with `result`), `raised` (with `error`), `cancelled` (also by a
    time limit), or `interrupted`: its process crashed. `effects` counts how often its code ran to its end, whatever
    became of the answer.
    """

    activity: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    execution_id: str
    attempt: int
    idempotency_key: str
    at: datetime
    outcome: Outcome = "running"
    effects: int = 0
    result: Any = None
    error: BaseException | None = None
    options: ActivityOptions = field(default_factory=ActivityOptions, repr=False)


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one attempt; see `Environment.on_attempt`.

    `when` says when `error` is raised: `before` the code runs (nothing took effect), or `after` (it took effect, and
    the answer is lost). Without an `error` the attempt never answers: only a time limit ends it. `twice` runs the code
    twice, as a request that the network delivers twice. `delay_s` comes first.
    """

    error: BaseException | None = None
    when: Literal["before", "after", "never"] = "never"
    twice: bool = False
    delay_s: float = 0.0
