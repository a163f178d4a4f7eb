"""A disk that is really full, with any amount of room left before, and then has room again."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections import Counter

import pytest
from fault_disk import PAGE_BYTES, SmallDisk
from fault_run import Run

from perdure import Client, Engine, Signal, activity, workflow
from perdure.errors import ExecutionNotFound, StoreFull
from perdure.store.sqlite import SqliteStore

EVERY = os.environ.get("PERDURE_FAULTS") == "all"
approved = Signal("approved", str)
effects: Counter[str] = Counter()


@activity
async def make(name: str) -> str:
    effects[name] += 1
    return random.Random(name).randbytes(30_000).hex()


@workflow
async def grows(name: str, steps: int) -> int:
    return sum([len(await make(f"{name}-{n}")) for n in range(steps)])


@workflow
async def waits() -> str:
    return await approved.receive()


@pytest.fixture(autouse=True)
def _anew():
    effects.clear()


@pytest.fixture
def _soon(monkeypatch):
    """Have the engine try again soon in real time."""
    monkeypatch.setattr("perdure.engine.faults.WAIT_S", (0.001, 0.01))


class FullFor(Run):
    """People on a full disk, which has room again after some seconds of virtual time."""

    def __init__(self, disk: SmallDisk, seconds: float) -> None:
        super().__init__(disk.path / "full.db")
        self.disk = disk
        self.seconds = seconds

    async def use(self) -> None:
        self.loop.call_later(self.seconds, self.disk.free)
        await super().use()


ROOM = range(0, 120, 2 if EVERY else 8)
"""Pages left at first: from none at all to enough for the whole run."""


@pytest.mark.parametrize("seconds", [0.7, 7.0])
def test_whatever_room_is_left_everything_goes_on_when_there_is_more(small_disk, seconds):
    full = 0
    for pages in ROOM:
        small_disk.fill(pages * PAGE_BYTES)
        run = FullFor(small_disk, seconds)
        run.play(run.use)
        full += bool(run.errors)
        assert all("free space" in told for told in run.errors), run.errors
        run.play(run.look)
        small_disk.clear()
    assert full > len(ROOM) / 4, "the disk was not full"
    assert run.errors == [], "the last one had room for everything"


@pytest.mark.usefixtures("_soon")
async def test_work_that_fills_the_disk_waits_for_room_and_nothing_runs_twice(small_disk, until):
    small_disk.fill(1024**2)
    async with Engine(small_disk.path / "full.db", [grows, waits]) as engine:
        told = await engine.start(waits, id="told")
        executions = [await engine.start(grows, f"x{n}", 10) for n in range(5)]
        await until(lambda: engine._runner.faults.count > 3)
        with pytest.raises(StoreFull, match="no room on the disk") as caught:
            await engine.start(waits, id="refused")
        assert "free space" in caught.value.hint
        with pytest.raises(StoreFull):
            await told.signal(approved, "refused")
        small_disk.free()
        await told.signal(approved, "yes")
        results = await asyncio.gather(told.result(20), *(execution.result(20) for execution in executions))
        assert results == ["yes", *[600_000] * 5]
        with pytest.raises(ExecutionNotFound):
            await engine.describe("refused")
        assert all(well for _, well, _ in engine.store.check(quick=False))
    assert set(effects.values()) == {1}
    assert len(effects) == 50


@pytest.mark.usefixtures("_soon")
async def test_an_engine_closes_on_a_full_disk_and_another_goes_on(small_disk, until):
    small_disk.fill(1024**2)
    path = small_disk.path / "full.db"
    async with Engine(path, [grows], grace_s=0) as engine:
        await engine.start(grows, "x", 40, id="x")
        await until(lambda: engine._runner.faults.count > 3)
    small_disk.fill()
    with contextlib.suppress(StoreFull):  # the log that is left may have room for what an engine writes first
        async with Engine(path, [grows], grace_s=0):
            pass
    small_disk.free()
    async with Engine(path, [grows]) as engine:
        assert await engine.execution("x", grows).result(timeout_s=20) == 40 * 60_000


async def test_a_client_is_told_and_what_it_asked_was_not_heard(small_disk):
    path = small_disk.path / "full.db"
    SqliteStore(path).close()
    async with Client(path) as client:
        await client.start(waits, id="before")
        small_disk.fill()
        with pytest.raises(StoreFull, match="no room on the disk"):
            for n in range(100):  # the log has room for some
                await client.start(waits, id=f"refused-{n}")
        assert (await client.describe("before")).id == "before"
        with pytest.raises(ExecutionNotFound):
            await client.describe(f"refused-{n}")


def test_a_file_cannot_be_made_on_a_full_disk(small_disk):
    small_disk.fill()
    with pytest.raises(StoreFull) as caught:
        SqliteStore(small_disk.path / "full.db")
    assert "free space" in caught.value.hint
    small_disk.free()
    SqliteStore(small_disk.path / "full.db").close()
