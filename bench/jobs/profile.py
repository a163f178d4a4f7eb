"""Where the time of a step goes: a stopwatch around the seams of the engine, microseconds of each part without those
of the parts inside it.

The stopwatch itself costs about half a microsecond a part, so the parts add up to a little more than a step takes. The
sync has no seam of its own: it is what a commit takes more with `synchronous="full"` than with `"normal"`.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from pathlib import Path
from time import perf_counter
from typing import Any

from bench.jobs.definitions import check, family, one_step, sequence, total_of, warm_engine
from bench.jobs.throughput import Synchronous
from perdure import Engine
from perdure.codec import Arguments, Value
from perdure.engine.runner import Runner
from perdure.replay import Run
from perdure.store.sqlite import SqliteStore

SEAMS: tuple[tuple[type, str, str], ...] = (
    (Runner, "pump", "runner"),
    (Run, "apply", "code"),
    (SqliteStore, "commit", "commit"),
    (Arguments, "encode", "codec"),
    (Arguments, "call_args", "codec"),
    (Value, "check", "codec"),
    (Value, "decode", "codec"),
)
OUTSIDE = "outside"


class Stopwatch:
    """Adds up the seconds of each part; only one runs at a time."""

    def __init__(self) -> None:
        self.spent_s = dict.fromkeys((OUTSIDE, *(part for *_, part in SEAMS)), 0.0)
        self._part = OUTSIDE
        self._since = perf_counter()

    def switch(self, part: str) -> str:
        """Count for `part` from now on; give the part that was counted for."""
        now = perf_counter()
        self.spent_s[self._part] += now - self._since
        before, self._part, self._since = self._part, part, now
        return before

    def reset(self) -> None:
        self.spent_s = dict.fromkeys(self.spent_s, 0.0)
        self._since = perf_counter()

    def around(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """Give the function, counted for `part`."""

        @functools.wraps(function)
        def timed(*args: Any, **kwargs: Any) -> Any:
            before = self.switch(part)
            try:
                return function(*args, **kwargs)
            finally:
                self.switch(before)

        return timed


async def profile(folder: Path, *, of: str, count: int, synchronous: Synchronous = "full") -> dict[str, float]:
    """Profile one of the jobs: microseconds by part for each of its `count` units."""
    watch = Stopwatch()
    for owner, name, part in SEAMS:
        setattr(owner, name, watch.around(getattr(owner, name), part))
    async with warm_engine(folder, synchronous) as engine:
        watch.reset()
        await _PROFILED[of](engine, count)
        watch.switch(OUTSIDE)
    micros = {part: spent_s / count * 1e6 for part, spent_s in watch.spent_s.items()}
    return {"total": sum(micros.values()), **micros}


async def _seq(engine: Engine, steps: int) -> None:
    execution = await engine.start(sequence, steps)
    check([await execution.result()], total_of(steps))


async def _conc(engine: Engine, steps: int) -> None:
    each = 20
    executions = await asyncio.gather(*(engine.start(sequence, each) for _ in range(steps // each)))
    check(await asyncio.gather(*(execution.result() for execution in executions)), total_of(each))


async def _start_result(engine: Engine, count: int) -> None:
    for n in range(count):
        execution = await engine.start(one_step, n)
        check([await execution.result()], n)


async def _workflows(engine: Engine, count: int) -> None:
    executions = await asyncio.gather(*(engine.start(one_step, n) for n in range(count)))
    check([sum(await asyncio.gather(*(execution.result() for execution in executions)))], total_of(count))


async def _children(engine: Engine, count: int) -> None:
    execution = await engine.start(family, count)
    check([await execution.result()], total_of(count))


_PROFILED = {
    "seq": _seq,
    "conc": _conc,
    "start_result": _start_result,
    "workflows": _workflows,
    "children": _children,
}
