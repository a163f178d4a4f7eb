"""What each workflow must give, worked out without perdure; and which of them to start."""

from __future__ import annotations

import random
from typing import Any

from crash_workflows import (
    approved,
    at_once,
    beating,
    collect,
    count_up,
    draw,
    fan,
    flaky,
    guarded,
    hopeful,
    hopeful_parent,
    in_rounds,
    large,
    leaf,
    leaving,
    limited,
    listener,
    overdue,
    pipeline,
    plain_leaf,
    plainly,
    pooled,
    relay,
    shelled,
    talk,
    tick,
    undone,
)

JOBS: dict[Any, float] = {
    pipeline: 1.0, fan: 1.0, flaky: 1.0, count_up: 1.0, plainly: 1.0, undone: 1.0, limited: 0.5, at_once: 1.0,
    approved: 1.0, large: 0.5, pooled: 0.1, shelled: 0.5, beating: 0.7, in_rounds: 1.0, talk: 1.0, draw: 1.0,
    hopeful: 0.7, hopeful_parent: 0.7, overdue: 0.4, leaving: 0.5,
}  # fmt: skip
"""What ends by itself, with how often it is started."""
WORKFLOWS: list[Any] = [*JOBS, leaf, plain_leaf, listener, collect, relay, guarded, tick]
BY_NAME = {made.name: made for made in WORKFLOWS}
RETRIED = frozenset({"hopeful", "hopeful_parent"})
TIME_LIMIT_S = 0.3


def draw_job(choose: random.Random) -> tuple[Any, int]:
    workflow = choose.choices(list(JOBS), list(JOBS.values()))[0]
    return workflow, choose.randint(1, 2 if workflow is pooled else 6)


def expected(name: str, input: dict[str, Any]) -> list[Any]:
    """Give the results that an execution may have, an error as its class's name. Those that are told when to end are
    not known here."""
    n = input.get("n", 0)
    match name:
        case "undone":
            return ["Rejected"]
        case "overdue":
            return ["ExecutionTimedOut"]
        case "hopeful":  # of which a child is cancelled when its sibling fails
            return [["before", *[f"hope{i}" for i in range(n)]]]
        case "hopeful_parent":
            return [[["before", *[f"hope{i}" for i in range(k)]] for k in (n, 1)]]
        case "guarded" | "tick":
            return ["ExecutionCancelled"]
        case _:
            return [_result(name, n)]


def _result(name: str, n: int) -> Any:
    match name:
        case "pipeline":
            return [f"s{i}" for i in range(n)]
        case "leaf":
            return 1
        case "plain_leaf":
            return f"plain{n}"
        case "fan":
            return [1] * n
        case "flaky":
            return [f"f{i}" for i in range(n)]
        case "count_up":
            return list(range(1, n + 1))
        case "plainly":
            return [f"p{i}" for i in range(n)] + [f"q{i}" for i in range(3)] + [f"plain{n}"]
        case "limited":
            return ["late"] * n
        case "at_once":
            return [f"slow{i}" for i in range(n)]
        case "approved":
            return [f"a{i}" for i in range(n)]
        case "large":
            return [300_000] * n
        case "pooled":
            return [f"pool{i}" for i in range(n)]
        case "shelled":
            return [f"exec{i}" for i in range(n)]
        case "beating":
            return [i + 3 for i in range(n)]
        case "in_rounds":
            return n
        case "listener":
            return f"heard {n}"
        case "talk":
            return [f"WORD{i}" for i in range(n)] + [f"heard {n}"]
        case "draw":
            return True
        case "leaving":
            return "gone"
    raise ValueError(name)
