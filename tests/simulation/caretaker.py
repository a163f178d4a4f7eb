"""Plans the work of a seed, and sees to it that nothing waits for the world for ever: who waits for a signal gets one,
who waits for an answer gets it, who is paused is resumed."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from perdure import Client
from perdure.events import Kind
from perdure.types import Status
from simulation.errands import Answer, Demand, Errand, Read, Send, Start, Stream, Watch
from simulation.plain_workflow import plain
from simulation.programs import Drawing, Program, has
from simulation.shadow import Shadow
from simulation.witness import Witness
from simulation.workflows import COLLECTOR, collect, number, play

if TYPE_CHECKING:
    from perdure.workflow import Workflow
    from simulation.world import World

SLOW_S = 0.4
HURRY_S = 0.2


class Caretaker:
    """See the module."""

    def __init__(self, world: World, dice: random.Random) -> None:
        self.world = world
        self.dice = dice
        self.drawing = Drawing(dice, world.options.deploys)
        self.hurrying = False
        self.streams: list[Stream] = []
        self.terminated: set[str] = set()
        self._sent: dict[tuple[int, int, str], int] = {}
        """Signals that were asked for: by (execution, how often it was reopened, name) how many it had received."""
        self._resuming: set[str] = set()
        self._retried: set[str] = set()
        self._last: Send | None = None
        self._serial = 0

    # --- planning -----------------------------------------------------------------------------------------------------

    def plan_work(self) -> None:
        until_s = self.world.options.safety_s * 0.8
        for n in range(self.world.options.roots):
            self._plan_root(f"root-{n}", self.dice.uniform(0.0, until_s * 0.7))
        if self.dice.random() < 0.6:
            self._plan(Start(self.world.witness, COLLECTOR, collect, []), 0.0)
            if self.dice.random() < 0.5:
                self._plan(Demand(self.world.witness, COLLECTOR, "pause"), self.dice.uniform(0.0, until_s))
            for n in range(self.dice.randint(1, 2)):
                self.streams.append(stream := Stream(self.world.witness, f"sender-{n}", self.dice.randint(2, 8)))
                self._plan(stream, self.dice.uniform(0.0, until_s))
        self.world.scheduler.after(SLOW_S, self._look_after)

    def _plan(self, errand: Errand, delay_s: float) -> None:
        self.world.desk.plan(errand, delay_s)

    def _plan_root(self, id: str, at_s: float) -> None:
        witness, dice = self.world.witness, self.dice
        work = self._draw_work()
        self._plan(self._start(id, work), at_s)
        for _ in range(dice.choice([0, 0, 1, 2])):  # more callers, most of them with the same input
            other = work if dice.random() < 0.8 else self._draw_work()
            self._plan(self._start(id, other), at_s + dice.choice([0.0, dice.uniform(0.0, 3.0)]))
        for what, rate in ("cancel", 0.15), ("terminate", 0.05), ("pause", 0.2):
            if dice.random() < rate:
                self._plan(Demand(witness, id, what), at_s + dice.uniform(0.0, 4.0))
                if what == "terminate":
                    self.terminated.add(id)
        if dice.random() < 0.1:
            self._plan(Demand(witness, id, "pause"), paused := at_s + dice.uniform(0.0, 2.0))
            self._plan(Demand(witness, id, "cancel"), paused + dice.uniform(0.0, 0.4))
        if self.world.options.storms:
            self._plan_storm(id, at_s)
        for _ in range(dice.randint(0, 2)):
            self._plan(Watch(witness, id), at_s + dice.uniform(0.0, 4.0))
        self._plan(Read(witness, id), at_s + dice.uniform(0.0, 4.0))

    def _plan_storm(self, id: str, at_s: float) -> None:
        dice = self.dice
        moments = [at_s + dice.choice([dice.uniform(0.0, 0.01), dice.uniform(0.0, 3.0)]) for _ in range(3)]
        for _ in range(dice.randint(4, 9)):
            what = dice.choice(["pause", "pause", "resume", "resume", "retry", "retry", "start", "cancel"])
            asked = self._start(id, self._draw_work()) if what == "start" else Demand(self.world.witness, id, what)
            self._plan(asked, dice.choice(moments))

    def _draw_work(self) -> tuple[Workflow[..., Any, Any], Program]:
        if self.dice.random() < 0.25:
            return plain, self.drawing.plain_program()
        return play, self.drawing.program()

    def _start(self, id: str, work: tuple[Workflow[..., Any, Any], Program]) -> Start:
        conflict = self.dice.choice(["join", "join", "join", "reject", "replace"])
        timeout_s = self.dice.choice([None, None, None, self.dice.uniform(0.5, 5.0)])
        return Start(self.world.witness, id, *work, on_conflict=conflict, timeout_s=timeout_s)

    def hurry(self) -> None:
        """From now on let nothing wait."""
        self.hurrying = True

    # --- looking after ------------------------------------------------------------------------------------------------

    def _look_after(self) -> None:
        for shadow in list(self.world.auditor.newest.values()):
            if not shadow.status.closed and (self.hurrying or self.dice.random() < 0.5):
                self._help(shadow)
            elif self._may_be_retried(shadow) and self.dice.random() < 0.3:
                self._plan_retry(shadow.id)
        if self.hurrying:
            self._end_collection()
        self.world.scheduler.after(HURRY_S if self.hurrying else SLOW_S, self._look_after)

    def _plan_retry(self, id: str) -> None:
        self._retried.add(id)
        delay_s = self.dice.random()
        self._plan(Demand(self.world.witness, id, "retry"), delay_s)
        if self.world.options.rivals:
            rival = Start(self.world.witness, id, *self._draw_work(), on_conflict="replace")
            self._plan(rival, delay_s + self.dice.uniform(-0.000_5, 0.000_2))

    def _may_be_retried(self, shadow: Shadow) -> bool:
        """Say whether it failed, and a retry can end: what a child told a parent that had ended is not told again."""
        if shadow.status is not Status.FAILED or shadow.id in self._retried:
            return False
        return shadow.workflow in ("play", "plain") and not has(shadow.program, "chat")

    def _help(self, shadow: Shadow) -> None:
        if shadow.status is Status.PAUSED and shadow.id not in self._resuming:
            self._resuming.add(shadow.id)
            self._plan(_Resume(self, shadow.id), 0.0)
        if shadow.id == COLLECTOR:
            return
        for name, box in shadow.run.mailboxes.items():
            waiting = sum(not call.done() for call in box.receivers)
            key = (shadow.num, shadow.count(Kind.REOPENED), name)
            received = shadow.count(Kind.SIGNAL_RECEIVED)
            if waiting and name.startswith("k") and self._sent.get(key, -1) < received:
                self._sent[key] = received
                self._serial += 1
                self._plan(Send(self.world.witness, shadow.id, name, self._serial), 0.0)

    def asked(self, token: str, key: str) -> None:
        """Answer an activity that waits for the outside, sooner or later."""
        delay_s = 10 ** self.dice.uniform(-3.0, -0.5 if self.hurrying else 0.5)
        self._plan(Answer(self.world.witness, key, token, key), delay_s)

    def resumed(self, id: str) -> None:
        self._resuming.discard(id)

    # --- the end ------------------------------------------------------------------------------------------------------

    def _end_collection(self) -> None:
        """Send the collector its last value, once nobody can send it any other."""
        collector = self.world.auditor.newest.get(COLLECTOR)
        if collector is None or collector.status.closed or self._last is not None:
            return
        others = [s for s in self.world.auditor.newest.values() if s is not collector and not s.status.closed]
        busy = [errand for errand in self.world.desk.open if errand.essential]
        if not others and not busy:
            self._last = _Last(self.world.witness)
            self._plan(self._last, 0.0)

    def all_done(self) -> bool:
        """Say whether everything has ended that was ever begun."""
        if not self.hurrying or self.world.desk.essential():
            return False
        return all(shadow.status.closed and not shadow.parked for shadow in self.world.auditor.shadows.values())

    def unfinished(self) -> str:
        """Name what has not ended."""
        shadows = [s for s in self.world.auditor.shadows.values() if s.parked or not s.status.closed]
        executions = [f"{s} is {s.status}, its inbox {s.parked}" for s in shadows]
        desk = self.world.desk
        return "; ".join([*executions, *(f"{errand} (by {desk.where(errand)})" for errand in desk.essential())])


class _Resume(Demand):
    """Resume an execution that was found paused."""

    def __init__(self, caretaker: Caretaker, id: str) -> None:
        super().__init__(caretaker.world.witness, id, "resume")
        self.caretaker = caretaker

    async def ask(self, client: Client) -> object:
        answer = await super().ask(client)
        self.caretaker.resumed(self.id)
        return answer


class _Last(Send):
    """The last value of the collector."""

    def __init__(self, witness: Witness) -> None:
        super().__init__(witness, COLLECTOR, number.name, 0)

    @property
    def value(self) -> str:
        return "last"
