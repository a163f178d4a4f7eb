"""Has errands done: gives each to some process, and again to another one when that was refused or died."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from perdure.errors import EngineClosed, ExecutionNotFound, StoreError
from simulation.errands import Errand
from simulation.process import Process

if TYPE_CHECKING:
    from simulation.world import World


class Desk:
    """See the module."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.open: dict[Errand, None] = {}
        """Errands that are planned or under way."""
        self.hands: dict[Process, dict[Errand, None]] = {}
        """Which process is doing which."""

    def plan(self, errand: Errand, delay_s: float) -> None:
        """Have an errand done, `delay_s` seconds from now at the earliest."""
        self.open[errand] = None
        self.world.scheduler.after(delay_s, lambda: self._give(errand))

    def essential(self) -> list[Errand]:
        return [errand for errand in self.open if errand.essential]

    def where(self, errand: Errand) -> str:
        """Say who is doing an errand."""
        return next((str(process) for process, mine in self.hands.items() if errand in mine), "nobody")

    def _give(self, errand: Errand) -> None:
        places = self.world.places(errand)
        if not places:
            self.plan(errand, 0.2)
            return
        process = self.dice.choice(places)
        self.hands.setdefault(process, {})[errand] = None
        self.world.timeline.note(process, "asks", str(errand))
        process.spawn(self._do(process, errand))

    async def _do(self, process: Process, errand: Errand) -> None:
        assert process.station is not None
        again_s: float | None = None
        answer: object
        try:
            answer = await errand.ask(process.station)
        except (StoreError, EngineClosed) as error:
            answer, again_s = type(error).__name__, self.dice.uniform(0.01, 0.5)
            errand.refused()
        except ExecutionNotFound:
            answer, again_s = "not found", self.dice.uniform(0.1, 0.5)
        if not process.alive:
            return
        self.world.timeline.note(process, "told", f"{errand}: {answer}")
        del self.hands[process][errand]
        if again_s is not None:
            self.plan(errand, again_s)
        else:
            del self.open[errand]

    def process_ended(self, process: Process) -> None:
        """Give what a process had in hand to others."""
        for errand in self.hands.pop(process, {}):
            errand.interrupted()
            self.plan(errand, self.dice.uniform(0.01, 0.5))
