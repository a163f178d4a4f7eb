"""One workflow of very many steps: whether a step's cost grows, how large the file gets, how fast it is replayed."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

import apsw

from bench.jobs.definitions import WARM_UP_STEPS, check, database, stamped_sequence, stamps, total_of, warm_engine
from perdure.replay import Run
from perdure.replay.history import effective
from perdure.store.sqlite import SqliteStore

WINDOW = 1_000
WINDOWS = 10
"""How many windows at either end are compared."""


async def long(folder: Path, *, steps: int) -> dict[str, float]:
    """Run it, then look at the file, then replay its history."""
    async with warm_engine(folder) as engine:
        execution = await engine.start(stamped_sequence, steps, id="long")
        check([await execution.result()], total_of(steps))
    if len(stamps) != steps:
        raise RuntimeError(f"{steps} steps ran {len(stamps)} times")
    size = _size_bytes(database(folder)) / (steps + WARM_UP_STEPS)
    return {**_windows(), "bytes": size, **_replayed(database(folder), steps)}


def _windows() -> dict[str, float]:
    """Compare the medians of the first and the last windows: one window alone may hold a checkpoint or a hiccup of the
    disk more than another."""
    times = [stamps[at + WINDOW] - stamps[at] for at in range(0, len(stamps) - WINDOW, WINDOW)]
    first, last = statistics.median(times[:WINDOWS]), statistics.median(times[-WINDOWS:])
    shape = {f"window{n}": value for n, value in enumerate(_tenths(times))}
    return {"flat": last / first, **shape}


def _tenths(times: list[float]) -> list[float]:
    """The microseconds of a step in each tenth of the run."""
    width = max(len(times) // 10, 1)
    return [statistics.median(times[at : at + width]) / WINDOW * 1e6 for at in range(0, width * 10, width)]


def _size_bytes(path: Path) -> int:
    """The size of the file with all of the log in it."""
    connection = apsw.Connection(str(path))
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    connection.close()
    return path.stat().st_size


def _replayed(path: Path, steps: int) -> dict[str, float]:
    """Read the history from the file and replay it to its end, as the engine does when it loads an execution."""
    store = SqliteStore(path)
    row = store.find("long")
    assert row is not None
    began = time.perf_counter()
    events = effective(store.history(row.num))
    read = time.perf_counter()
    run = Run(stamped_sequence, row.id, row.run)
    run.replay(events)
    done = time.perf_counter()
    store.close()
    if len(events) != 2 * steps + 2 or run.closing is None:
        raise RuntimeError(f"a wrong history: {len(events)} events for {steps} steps")
    return {"replay": len(events) / (done - began), "replay_only": len(events) / (done - read)}
