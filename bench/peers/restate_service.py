"""The workflow in Restate's Python SDK, as its documentation shows it; hypercorn serves it (`restate_jobs.py`)."""

from __future__ import annotations

import restate


async def noop(n: int) -> int:
    return n


bench = restate.Service("bench")


@bench.handler()  # type: ignore[untyped-decorator, unused-ignore]  # only where the extra `bench` is not installed
async def sequence(context: restate.Context, steps: int) -> int:
    total = 0
    for n in range(steps):
        total += await context.run_typed("noop", noop, n=n)
    return total


app = restate.app([bench])
