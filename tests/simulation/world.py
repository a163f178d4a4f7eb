"""One seed, from its start to its end.

set up ──▶ safety: faults, the invariants checked after every commit ──▶ heal
       ──▶ liveness: no faults; everything must end within bounded virtual time ──▶ the outcomes are checked
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

from perdure.engine.registry import Registry
from perdure.errors import PerdureError
from simulation.activities import Stage
from simulation.auditor import Auditor, Violation
from simulation.bells import Bells
from simulation.caretaker import Caretaker
from simulation.desk import Desk
from simulation.disk import Disk
from simulation.errands import Errand, Watch
from simulation.faults import Faults
from simulation.ledger import Ledger
from simulation.options import Options
from simulation.outcomes import check_outcomes
from simulation.process import Process
from simulation.scheduler import Restless, Scheduler
from simulation.stations import SimulatedClient, SimulatedEngine, Station
from simulation.timeline import Timeline
from simulation.witness import Witness
from simulation.workflows import BEFORE, WORKFLOWS

REGISTRY, REGISTRY_BEFORE = Registry(WORKFLOWS), Registry(WORKFLOWS)
REGISTRY_BEFORE.by_name.update({workflow.name: workflow for workflow in BEFORE})
LIVENESS_S = 900.0


@dataclass
class Report:
    """What one seed showed. `violation` is empty when all was well."""

    seed: int
    violation: str = ""
    options: str = ""
    timeline: str = ""
    hash: str = ""
    faults: dict[str, int] = field(default_factory=dict)
    executions: int = 0
    events: int = 0
    commits: int = 0
    attempts: int = 0
    virtual_s: float = 0.0


class World:
    """See the module."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.seed = seed
        self.dice = random.Random(seed)
        self.options = Options.draw(self.dice)
        self.scheduler = Scheduler(self._dice())
        self.timeline = Timeline(self.scheduler)
        self.auditor = Auditor(self.scheduler, self.timeline)
        self.witness = Witness(self.auditor)
        self.faults = Faults(self, self.options, self._dice(), self.timeline)
        self.bells = Bells(self.faults.ring_delay)
        self.disk = Disk(folder / "world.db", self.scheduler, self.faults.fate, self.auditor.committed)
        self.desk = Desk(self, self._dice())
        self.caretaker = Caretaker(self, self._dice())
        self.ledger = Ledger(self.scheduler, self.auditor, self.timeline, self.caretaker.asked)
        self.ending = False
        self._ids = 0
        self._names = 0
        self._standbys: list[tuple[Process, Any]] = []
        self._opened: dict[Process, None] = {}

    def _dice(self) -> random.Random:
        return random.Random(self.dice.getrandbits(64))

    # --- the two phases -----------------------------------------------------------------------------------------------

    def run(self, keep_timeline: bool = False) -> Report:
        """Run the seed to its end."""
        report = Report(self.seed, options=str(self.options))
        Stage.ledger = self.ledger
        with _listening(self):
            try:
                self._run()
            except (Violation, Restless) as violation:
                report.violation = f"{type(violation).__name__}: {violation}"
            finally:
                self._take_apart()
        self._fill(report, keep_timeline)
        return report

    def _run(self) -> None:
        for _ in range(self.options.engines):
            self._open(SimulatedEngine)
        for _ in range(self.options.clients):
            self._open(SimulatedClient)
        self.caretaker.plan_work()
        self.faults.start()
        self.scheduler.run(lambda: False, self.options.safety_s)
        self._heal()
        if not self.scheduler.run(self.caretaker.all_done, LIVENESS_S):
            raise Violation(f"liveness: {self.caretaker.unfinished()}")
        check_outcomes(self)

    def _heal(self) -> None:
        self.timeline.note("world", "heals")
        self.faults.heal()
        for process in self.engines():
            if not process.is_current:
                self.close(process)
        self.caretaker.hurry()
        for process in self.scheduler.processes:
            process.paused_until = 0.0

    def code(self) -> Registry:
        """Give the code for a process that opens: the newest, or while a deployment is under way that before it."""
        old = self.options.deploys and self.faults.on and self.dice.random() < 0.5
        return REGISTRY_BEFORE if old else REGISTRY

    def is_newest(self, registry: Registry) -> bool:
        return registry is REGISTRY

    def _fill(self, report: Report, keep_timeline: bool) -> None:
        report.faults = dict(self.faults.counts)
        report.executions = len(self.auditor.shadows)
        report.events, report.commits = self.auditor.events, self.auditor.commits
        report.attempts = len(self.ledger.started)
        report.virtual_s = self.scheduler.now
        if report.violation or keep_timeline:
            report.timeline = self.timeline.tail()
            report.hash = self.timeline.hash(str(self.disk.path.parent))

    def _take_apart(self) -> None:
        self.ending = True
        self.scheduler.current = None
        for process in list(self.scheduler.processes):
            process.bury()
        for shadow in self.auditor.shadows.values():
            shadow.run.evict()

    # --- processes ----------------------------------------------------------------------------------------------------

    def engines(self) -> list[Process]:
        return [process for process in self._opened if isinstance(process.station, SimulatedEngine)]

    def places(self, errand: Errand) -> list[Process]:
        """Give the processes that an errand can be done in."""
        clients = [process for process in self._opened if isinstance(process.station, SimulatedClient)]
        if self.options.apart and clients and not isinstance(errand, Watch):
            return clients
        return list(self._opened)

    def _open(self, kind: type[Station]) -> None:
        self._names += 1
        name = f"{'engine' if kind is SimulatedEngine else 'client'}-{self._names}"
        process = Process(self.scheduler, name, self.faults.skew_s(), self._failed)
        process.on_end = lambda process: self._process_ended(process, kind)
        self.timeline.note(process, "opens", f"skew {process.skew_us / 1e6:.3f} s")
        process.spawn(self._enter(process, kind))

    async def _enter(self, process: Process, kind: type[Station]) -> None:
        process.station = kind(process, self)
        try:
            await process.station.__aenter__()
        except PerdureError as error:
            self.timeline.note(process, "could not", f"open: {type(error).__name__}")
            process.kill()
        else:
            self._opened[process] = None
            if not self.faults.on and not process.is_current:  # it was about to open when the world healed
                self.close(process)

    def close(self, process: Process) -> None:
        """Close a process in order."""
        if process in self._opened:
            del self._opened[process]
            process.spawn(self._leave(process))

    async def _leave(self, process: Process) -> None:
        assert process.station is not None
        with contextlib.suppress(PerdureError):
            await process.station.__aexit__(None, None, None)
        self.timeline.note(process, "closed")
        process.kill()

    def _process_ended(self, process: Process, kind: type[Station]) -> None:
        self._opened.pop(process, None)
        if self.ending:
            return
        self.timeline.note(process, "is gone")
        self.desk.process_ended(process)
        self._standbys = [entry for entry in self._standbys if entry[0] is not process]
        self.scheduler.after(self.dice.choice([0.0, 0.01, 0.1, 1.0]), lambda: self._open(kind))

    def _failed(self, text: str) -> None:
        self.auditor.demand(False, text, 0)

    def new_id(self) -> str:
        self._ids += 1
        return f"made-up-{self._ids}"

    # --- the lock -----------------------------------------------------------------------------------------------------

    def lose_lock(self) -> None:
        """Delete the lock file, as somebody who tidies up may."""
        self.disk.path.with_name(f"{self.disk.path.name}-lock").unlink(missing_ok=True)
        self.lock_changed()

    def lock_changed(self) -> None:
        """Have the standbys try the lock: they do so every 20 ms, and until something changes in vain."""
        waiting, self._standbys = self._standbys, []
        for process, future in waiting:
            if process.alive:
                process.loop.call_later(self.dice.random() * 0.02, _resolve, future)

    async def lock_may_be_free(self, process: Process) -> None:
        future = process.loop.create_future()
        self._standbys.append((process, future))
        await future

    # --- the end ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def reading(self) -> Iterator[apsw.Connection]:
        """Open the file to read it, as somebody else would."""
        connection = apsw.Connection(str(self.disk.path), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            yield connection
        finally:
            connection.close()


def _resolve(future: Any) -> None:
    if not future.done():
        future.set_result(None)


class _Listener(logging.Handler):
    """Writes what perdure logs into the timeline. What it asks people to report is a violation."""

    def __init__(self, world: World) -> None:
        super().__init__(logging.WARNING)
        self.world = world

    def emit(self, record: logging.LogRecord) -> None:
        strand = self.world.scheduler.current
        text = record.getMessage().partition("\n")[0]
        self.world.timeline.note(strand.process if strand else "world", record.levelname.lower(), text)
        reported = "please report" in text or "Traceback" in text
        if reported and strand is not None and strand.process.alive:
            self.world.auditor.demand(False, f"{text}: {record.exc_info and record.exc_info[1]!r}", 0)


@contextlib.contextmanager
def _listening(world: World) -> Iterator[None]:
    logger = logging.getLogger("perdure")
    handler, before = _Listener(world), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before
