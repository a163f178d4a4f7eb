"""Engines on a clock that stands still, and a player that runs one workflow in memory, evicted and restarted."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from perdure import Engine, Execution, Filter, Status
from perdure.events import INPUTS, NOTES, Event
from perdure.replay import Run

PATIENCE_S = 20.0

Step = Callable[[Execution[Any]], Awaitable[object]]
WAKE_NEXT: None = None
"""A step of a script: the clock jumps to the next timer."""


class World:
    """One database, and a clock that moves only when `jump` says so."""

    def __init__(self, database: Path, **options: Any) -> None:
        self.database = database
        self.options = options
        self.now_us = 1_800_000_000_000_000

    def engine(self, *workflows: Any, **options: Any) -> Engine:
        return Engine(self.database, workflows, now=lambda: self.now_us, **{"grace_s": 0.0, **self.options, **options})

    async def jump(self, engine: Engine, seconds: float | None = None) -> None:
        """Move the clock, by default to the next timer, and wait until what was due is done."""
        await self.quiet(engine)
        due = engine.store.next_due() if seconds is None else self.now_us + round(seconds * 1e6)
        assert due is not None, f"no timer is running: {await engine.list()}"
        self.now_us = max(due, self.now_us)
        engine.doorbell.ring("runner")
        await self.quiet(engine)

    async def quiet(self, engine: Engine) -> None:
        """Wait until no execution runs and no timer is due."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            due = engine.store.next_due()  # before the counts: what came due in between would be missed
            counts = await engine.counts()
            busy = counts.get(Status.PENDING, 0) + counts.get(Status.RUNNING, 0)
            if not busy and (due is None or due > self.now_us):
                return
            assert time.monotonic() < deadline, f"not quiet: {counts}, next timer {due}, now {self.now_us}"
            await asyncio.sleep(0.002)


@pytest.fixture
def world(database: Path) -> World:
    return World(database)


@dataclass
class Outcome:
    """How an execution ended, and the events (without notes) of it and all others, by id."""

    result: Any
    error: str | None
    histories: dict[str, list[Event]]

    def names(self, id: str = "it") -> list[str]:
        """Give the kinds of one execution's events, in order."""
        return [event.kind.name.lower() for event in self.histories[id]]


class Player:
    """Runs one workflow three times: kept in memory, evicted whenever it waits, with a new engine after every step.

    The three must give the same result and write the same histories, and every prefix of those replays to what
    follows it.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.played = 0

    async def __call__(
        self, workflow: Any, *args: Any, script: Iterable[Step | None] = (), also: Iterable[Any] = ()
    ) -> Outcome:
        self.played += 1
        known = [workflow, *also]
        steps = list(script)
        outcomes = {}
        for mode, options in ("hot", {}), ("evicted", {"hot": 0}), ("restarted", {}):
            world = World(self.folder / f"{mode}{self.played}.db", **options)
            play = _Play(world, known, args, steps, restart=mode == "restarted")
            outcomes[mode] = await play.to_the_end()
        assert outcomes["evicted"] == outcomes["hot"]
        assert outcomes["restarted"] == outcomes["hot"]
        return outcomes["hot"]


@pytest.fixture
def play(tmp_path: Path) -> Player:
    return Player(tmp_path)


class _Play:
    def __init__(
        self, world: World, known: list[Any], args: tuple[Any, ...], steps: list[Step | None], restart: bool
    ) -> None:
        self.world = world
        self.known = known
        self.args = args
        self.steps = list(steps)
        self.restart = restart

    async def to_the_end(self) -> Outcome:
        async with self.world.engine(*self.known) as engine:
            execution = await engine.start(self.known[0], *self.args, id="it")
            await self._play(engine, execution)
        while True:
            async with self.world.engine(*self.known) as engine:
                execution = engine.execution("it", self.known[0])
                await self.world.quiet(engine)
                if (await execution.info()).status.closed:
                    return await self._outcome(engine, execution)
                await self._play(engine, execution)

    async def _play(self, engine: Engine, execution: Execution[Any]) -> None:
        """Take one step; without restarts, all."""
        while True:
            await self.world.quiet(engine)
            info = await execution.info()
            if info.status.closed and not self.steps:
                return
            assert info.status is not Status.BLOCKED, info.problem
            step = self.steps.pop(0) if self.steps else WAKE_NEXT
            if step is None:
                await self.world.jump(engine)
            else:
                await step(execution)
                await self.world.quiet(engine)
            if self.restart:
                return

    async def _outcome(self, engine: Engine, execution: Execution[Any]) -> Outcome:
        result, error = None, None
        try:
            result = await execution.result()
        except Exception as raised:
            error = f"{type(raised).__name__}: {raised}"
        workflows = {workflow.name: workflow for workflow in self.known}
        histories = {}
        for info in reversed(await engine.list(Filter(limit=1_000))):
            row = engine.store.get(_num(engine, info.id, info.run))
            assert row is not None
            events = engine.store.history(row.num)
            if info.workflow in workflows:
                check_prefixes(workflows[info.workflow], info.id, info.run, events)
            key = info.id if info.run == 1 else f"{info.id}:{info.run}"
            histories[key] = [event for event in events if event.kind not in NOTES]
        return Outcome(result, error, dict(sorted(histories.items())))


def _num(engine: Engine, id: str, run: int) -> int:
    query = "SELECT num FROM perdure_execution WHERE id = ? AND run = ?"
    rows = engine.store.reader.connection.execute(query, (id, run))
    return int(next(rows)[0])


def check_prefixes(workflow: Any, id: str, number: int, events: list[Event]) -> None:
    """Replay every prefix of a history and compare what its next input leads to with what is recorded."""
    for at, event in enumerate(events):
        if event.kind not in INPUTS:
            continue
        run = Run(workflow, id, number)
        run.replay(events[:at])
        commands = run.apply(event)
        follow = events[at + 1 : at + 1 + len(commands)]
        assert [(e.kind, e.ref, e.name) for e in commands] == [(e.kind, e.ref, e.name) for e in follow], str(event)
        run.evict()
