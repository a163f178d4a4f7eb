"""Makes go wrong what can go wrong, as the options of the seed say, until it is told to heal."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

import apsw

from simulation.disk import Fate
from simulation.options import Options
from simulation.process import Process
from simulation.timeline import Timeline

if TYPE_CHECKING:
    from simulation.world import World

_ERRORS = (apsw.SQLITE_FULL, apsw.SQLITE_IOERR_WRITE, apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_BUSY, apsw.SQLITE_NOMEM)
_TIMED = ("crash", "outage", "jump", "stall", "zombie", "theft", "restart")


class Faults:
    """See the module."""

    def __init__(self, world: World, options: Options, dice: random.Random, timeline: Timeline) -> None:
        self.world = world
        self.options = options
        self.dice = dice
        self.timeline = timeline
        self.on = True
        self.left = options.faults
        self.counts: Counter[str] = Counter()
        self.outage_until = 0.0

    def start(self) -> None:
        """Plan the first of each kind that comes by time."""
        for kind in _TIMED:
            self._plan(kind)

    def heal(self) -> None:
        """From now on nothing goes wrong."""
        self.on = False
        self.outage_until = 0.0

    def strikes(self, kind: str) -> bool:
        """Decide whether a fault of this kind happens here."""
        rate = self.options.rates.get(kind)
        if rate is None or not self.on or not self.left or self.dice.random() >= rate:
            return False
        self.happen(kind)
        return True

    def happen(self, kind: str) -> None:
        self.left -= 1
        self.counts[kind] += 1

    # --- in transactions ----------------------------------------------------------------------------------------------

    def fate(self, process: Process) -> Fate:
        fate = Fate(commit_s=self.dice.random() * 0.000_5)
        if not self.on:
            return fate
        if self.world.scheduler.now < self.outage_until:
            fate.error, fate.at_statement = apsw.exception_for(apsw.SQLITE_FULL), self.dice.choice([1, 2, -1])
            return fate
        if self.strikes("slow"):
            name = self.dice.choice(["begin_s", "commit_s", "told_s"])
            seconds = 10 ** self.dice.uniform(-3.0, 0.5)
            setattr(fate, name, seconds)
            self.timeline.note(process, "fault", f"slow transaction: {name} {seconds:.3f}")
        if self.strikes("die"):
            fate.dies = self.dice.choice(["begin", "commit", "told"])
            self.timeline.note(process, "fault", f"will die in a transaction: {fate.dies}")
        elif self.strikes("fail"):
            fate.error = apsw.exception_for(self.dice.choice(_ERRORS))
            fate.at_statement = self.dice.choice([0, 1, 2, 3, 4, -1, -1])
            fate.rolls_back = self.dice.random() < 0.5
            self.timeline.note(process, "fault", f"transaction fails at {fate.at_statement}: {fate.error!r}")
        return fate

    def ring_delay(self) -> float | None:
        """Draw how long a ring takes; None when it is lost."""
        if self.strikes("lost ring"):
            self.timeline.note("world", "fault", "a ring is lost")
            return None
        return self.dice.uniform(0.1, 5.0) if self.strikes("late ring") else self.dice.random() * 0.001

    def skew_s(self) -> float:
        """Draw how far the clock of a new process is off."""
        return self._clock_error() if self.strikes("skew") else 0.0

    def _clock_error(self) -> float:
        return self.dice.choice([-1, 1]) * 10 ** self.dice.uniform(-2.0, 1.5)

    # --- by time ------------------------------------------------------------------------------------------------------

    def _plan(self, kind: str) -> None:
        rate = self.options.rates.get(kind)
        if rate is not None:
            self.world.scheduler.after(self.dice.expovariate(rate * 3), lambda: self._strike(kind))

    def _strike(self, kind: str) -> None:
        if not self.on or not self.left:
            return
        self._plan(kind)
        processes = self.world.engines() if kind in ("zombie", "theft") else list(self.world.scheduler.processes)
        if kind == "outage":
            self._outage()
        elif processes:
            process = self.dice.choice(processes)
            self.happen(kind)
            self.timeline.note(process, "fault", kind)
            getattr(self, f"_{kind}")(process)

    def _crash(self, process: Process) -> None:
        process.kill()

    def _restart(self, process: Process) -> None:
        self.world.close(process)

    def _stall(self, process: Process) -> None:
        process.pause(10 ** self.dice.uniform(-3.0, 0.5))

    def _zombie(self, process: Process) -> None:
        process.pause(self.dice.uniform(0.5, 8.0))
        self.world.scheduler.after(self.dice.random() * 0.2, self.world.lose_lock)

    def _theft(self, process: Process) -> None:
        self.world.lose_lock()

    def _jump(self, process: Process) -> None:
        process.skew_us += round(self._clock_error() * 1e6)

    def _outage(self) -> None:
        self.happen("outage")
        seconds = 10 ** self.dice.uniform(-2.0, 0.7)
        self.outage_until = self.world.scheduler.now + seconds
        self.timeline.note("world", "fault", f"the disk is full for {seconds:.3f} s")
