"""Programs as jobs of a real engine: starting them, their outcomes, and whether what they leave is sound."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from program_activities import Broken, effects
from program_def_interpreter import interpret_def
from program_interpreter import interpret
from workflow_programs import confluent_programs, def_programs, receives

from perdure import Engine, ExecutionInfo, Filter
from perdure.errors import ExecutionClosed
from perdure.replay import Run
from perdure.replay.history import effective

WORKFLOWS = [interpret, interpret_def]
jobs = st.lists(
    st.one_of(
        st.tuples(st.just(interpret), confluent_programs),
        st.tuples(st.just(interpret), confluent_programs),
        st.tuples(st.just(interpret_def), def_programs),
    ),
    min_size=1,
    max_size=6,
)


@contextlib.contextmanager
def database() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        effects.clear()
        yield Path(folder) / "property.db"


def named(jobs: list[Any]) -> dict[str, tuple[Any, Any]]:
    """Give every job an id, and its keys its name, so that the effects of one file can be told apart."""
    return {f"job-{n}": (workflow, _prefixed(program, f"{n}.")) for n, (workflow, program) in enumerate(jobs)}


def _prefixed(value: Any, prefix: str) -> Any:
    if isinstance(value, list):
        return [_prefixed(item, prefix) for item in value]
    return prefix + value if isinstance(value, str) and value[:1] == "k" and value[1:].isdigit() else value


async def start_all(engine: Engine, jobs: dict[str, tuple[Any, Any]]) -> None:
    for id, (workflow, program) in jobs.items():
        execution = await engine.start(workflow, program, id=id)
        for name in receives(program):
            with contextlib.suppress(ExecutionClosed):  # it failed before it came to receive
                await execution.signal(name, name)


async def outcomes(engine: Engine, jobs: dict[str, tuple[Any, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for id in jobs:
        try:
            found[id] = await engine.execution(id).result(timeout_s=10)
        except Broken:
            found[id] = "Broken"
    return found


async def check_histories(engine: Engine) -> None:
    """Replay the whole history of every execution, and ask the store whether all is sound."""
    bad = [entry for entry in engine.store.check(quick=False) if not entry[1]]
    assert not bad
    for num in range(1, len(await everything(engine)) + 1):
        row = engine.store.get(num)
        assert row is not None
        run = Run(interpret if row.workflow == interpret.name else interpret_def, row.id, row.run)
        run.replay(effective(engine.store.history(row.num)))
        assert run.closing is not None


async def everything(engine: Engine) -> list[ExecutionInfo]:
    found: list[ExecutionInfo] = []
    while page := await engine.list(Filter(after=(found[-1].id, found[-1].run) if found else None, limit=50)):
        found += page
    return found
