"""Drives workflow code without an engine: a pure machine that feeds `Run`s and carries out what they ask for.

A schedule decides at random what happens next: which activity ends, when the clock goes on to the next timer, when a
signal or a cancel arrives. There is no store and no clock, so thousands of executions fit into a second's budget. Every
execution's history is kept as the engine would write it.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec
from program_activities import Broken
from program_def_interpreter import interpret_def
from program_interpreter import interpret

from perdure.codec import encode_failure
from perdure.events import CLOSING, INPUTS, Event, Kind
from perdure.replay import Run
from perdure.replay.history import Inherited
from perdure.workflow import Workflow

START_US = 1_700_000_000_000_000
SOON_US = 60_000_000
MOST_STEPS = 5_000


class Actor:
    """One execution in the machine; a new run of the same id is a new actor."""

    def __init__(self, machine: Machine, workflow: Workflow[..., Any, Any], id: str, number: int = 1) -> None:
        self.machine = machine
        self.workflow = workflow
        self.id = id
        self.number = number
        self.run = Run(workflow, id, number)
        self.history: list[Event] = []
        self.parent: Actor | None = None
        self.parent_seq = 0
        self.abandoned = False
        self.activities: dict[int, dict[str, Any]] = {}
        self.timers: dict[int, int] = {}
        self.children: dict[int, str] = {}
        self.closing: Event | None = None

    def evict(self) -> None:
        """Drop the code from memory and make it again from the history."""
        if self.closing is None and self.history:
            self.run.evict()
            self.run = Run(self.workflow, self.id, self.number)
            self.run.replay(self.history)

    def note(self, kind: Kind, ref: int | None = None) -> None:
        self.run.seq += 1
        self.history.append(Event(self.run.seq, kind, self.machine.now, ref, None, "null"))

    def take(self, kind: Kind, ref: int | None = None, name: str | None = None, data: str | None = None) -> None:
        event = Event(self.run.seq + 1, kind, self.machine.now, ref, name, data)
        self.history.append(event)
        for command in self.run.apply(event):
            self.history.append(command)
            self.machine.carry_out(self, command)


class Machine:
    """See the module. `schedule` decides what happens next; `evict` says, asked before each input, whether the
    execution that gets it is dropped from memory first; `cancels` is how often the root is cancelled. A `prompt`
    world does all else before it lets hours pass."""

    def __init__(
        self,
        schedule: random.Random,
        evict: Callable[[], bool] = lambda: False,
        *,
        cancels: int = 0,
        prompt: bool = False,
    ) -> None:
        self.schedule = schedule
        self.evict = evict
        self.cancels = cancels
        self.prompt = prompt
        self.now = START_US
        self.actors: list[Actor] = []
        """All of them, closed ones too, in the order of their start."""
        self.live: dict[str, Actor] = {}
        self.pending: deque[tuple[str, Kind, int | None, str | None, str | None]] = deque()
        """Inputs that executions give each other: (id, kind, ref, name, data)."""
        self.done: dict[str, int] = {}
        """Effects: an activity's key to how often it ended well."""

    # --- running ----------------------------------------------------------------------------------------------------

    def play(self, workflow: Workflow[..., Any, Any], program: list[Any], signals: list[str]) -> Actor:
        """Run a program to its end; give the actor of its last run. Signals arrive at any time."""
        self._begin(workflow, "root", msgspec.json.encode({"program": program}).decode())
        self._settle()
        left = list(signals)
        for _ in range(MOST_STEPS):
            choices = self._choices(left)
            if not choices:
                if "root" not in self.live and not self.live:
                    break
                self._cancel_everyone()
            else:
                self.schedule.choice(choices)()
            self._settle()
        assert not self.live, f"still open after {MOST_STEPS} steps: {list(self.live)}"
        return self.root

    @property
    def root(self) -> Actor:
        """The last run of the execution that was started."""
        return [actor for actor in self.actors if actor.id == "root"][-1]

    def _choices(self, signals: list[str]) -> list[Callable[[], None]]:
        choices: list[Callable[[], None]] = []
        for actor in self.live.values():
            choices += [lambda a=actor, s=seq: self._end_activity(a, s) for seq in actor.activities]
        if "root" in self.live:
            if signals:
                choices.append(lambda: self._signal(signals.pop(0)))
            if self.cancels:
                choices.append(self._cancel)
        timers = [(due, actor.id, seq) for actor in self.live.values() for seq, due in actor.timers.items()]
        if timers and not (self.prompt and choices and min(timers)[0] > self.now + SOON_US):
            choices.append(lambda: self._fire(*min(timers)))
        return choices

    def _settle(self) -> None:
        """Let executions take what they have for each other, as the engine does within one transaction."""
        while self.pending:
            id, kind, ref, name, data = self.pending.popleft()
            actor = self.live.get(id)
            if actor is not None:
                self._give(actor, kind, ref, name, data)

    def _give(self, actor: Actor, kind: Kind, ref: int | None, name: str | None, data: str | None) -> None:
        if self.evict():
            actor.evict()
        actor.take(kind, ref, name, data)

    # --- what happens -----------------------------------------------------------------------------------------------

    def _end_activity(self, actor: Actor, seq: int) -> None:
        self.now += self.schedule.randrange(3)
        arguments = actor.activities[seq]
        if arguments.get("fails", 0) > 0:
            arguments["fails"] -= 1
            actor.note(Kind.ATTEMPT_FAILED, seq)
            return
        del actor.activities[seq]
        if arguments.get("final"):
            self._give(actor, Kind.ACTIVITY_FAILED, seq, None, encode_failure(Broken(arguments["key"])))
        else:
            self.done[arguments["key"]] = self.done.get(arguments["key"], 0) + 1
            self._give(actor, Kind.ACTIVITY_COMPLETED, seq, None, msgspec.json.encode(arguments["key"]).decode())

    def _fire(self, due: int, id: str, seq: int) -> None:
        actor = self.live[id]
        self.now = max(self.now, due)
        del actor.timers[seq]
        self._give(actor, Kind.TIMER_FIRED, seq, None, None)

    def _signal(self, name: str) -> None:
        if self.schedule.random() < 0.1:
            self.live["root"].note(Kind.PAUSED)
            self.live["root"].note(Kind.RESUMED)
        self._give(self.live["root"], Kind.SIGNAL_RECEIVED, None, name, f'"{name}"')

    def _cancel(self) -> None:
        self.cancels -= 1
        kind = self.schedule.choice([Kind.CANCEL_REQUESTED, Kind.TIMED_OUT])
        self._give(self.live["root"], kind, None, None, '"enough"' if kind is Kind.CANCEL_REQUESTED else None)

    def _cancel_everyone(self) -> None:
        """Nothing can happen any more: what is left waits forever."""
        for id in list(self.live):
            self.pending.append((id, Kind.CANCEL_REQUESTED, None, None, "null"))

    # --- what the code asks for ---------------------------------------------------------------------------------------

    def carry_out(self, actor: Actor, command: Event) -> None:
        match command.kind:
            case Kind.ACTIVITY_SCHEDULED:
                if command.seq in actor.run.open:
                    actor.activities[command.seq] = msgspec.json.decode(command.data or "{}")
            case Kind.ACTIVITY_CANCELLED:
                actor.activities.pop(command.ref or 0, None)
            case Kind.TIMER_STARTED:
                actor.timers[command.seq] = int(command.data or 0)
            case Kind.TIMER_CANCELLED:
                del actor.timers[command.ref or 0]
            case Kind.CHILD_STARTED:
                self._start_child(actor, command)
            case Kind.CHILD_CANCEL_REQUESTED:
                self.pending.append((actor.children[command.ref or 0], Kind.CANCEL_REQUESTED, None, None, '"parent"'))
            case Kind.SIGNAL_SENT:
                sent = msgspec.json.decode(command.data or "{}")
                value = msgspec.json.encode(sent["value"]).decode()
                self.pending.append((sent["to"], Kind.SIGNAL_RECEIVED, None, command.name, value))
            case kind if kind in CLOSING:
                self._close(actor, command)

    def _start_child(self, actor: Actor, command: Event) -> None:
        start = msgspec.json.decode(command.data or "{}")
        workflow = interpret if command.name == interpret.name else interpret_def
        actor.children[command.seq] = start["id"]
        child = Actor(self, workflow, start["id"])
        child.parent, child.parent_seq = actor, command.seq
        child.abandoned = actor.run.open[command.seq].target.on_parent_end == "abandon"
        self._enter(child, [], msgspec.json.encode(start["args"]).decode())

    def _begin(self, workflow: Workflow[..., Any, Any], id: str, data: str) -> None:
        self._enter(Actor(self, workflow, id), [], data)

    def _enter(self, actor: Actor, first: list[tuple[Kind, str | None]], data: str) -> None:
        self.actors.append(actor)
        self.live[actor.id] = actor
        for kind, text in first:
            self.pending.append((actor.id, kind, None, None, text))
        self.pending.append((actor.id, Kind.STARTED, None, actor.workflow.name, data))

    def _close(self, actor: Actor, command: Event) -> None:
        actor.closing = command
        del self.live[actor.id]
        actor.activities.clear()
        actor.timers.clear()
        for child in list(self.live.values()):
            if child.parent is actor and not child.abandoned:
                self.pending.append((child.id, Kind.CANCEL_REQUESTED, None, None, '"the parent ended"'))
        if command.kind is Kind.CONTINUED:
            self._continue(actor, command)
        elif actor.parent is not None and self.live.get(actor.parent.id) is actor.parent:
            kinds = {
                Kind.COMPLETED: Kind.CHILD_COMPLETED,
                Kind.FAILED: Kind.CHILD_FAILED,
                Kind.CANCELLED: Kind.CHILD_CANCELLED,
            }
            data = None if command.kind is Kind.CANCELLED else command.data
            self.pending.append((actor.parent.id, kinds[command.kind], actor.parent_seq, actor.workflow.name, data))

    def _continue(self, actor: Actor, command: Event) -> None:
        following = Actor(self, actor.workflow, actor.id, actor.number + 1)
        following.parent, following.parent_seq, following.abandoned = actor.parent, actor.parent_seq, actor.abandoned
        state = {key: msgspec.Raw(text.encode()) for key, text in actor.run.state.items()}
        signals = [(name, msgspec.Raw(text.encode())) for name, text in actor.run.unreceived()]
        data = msgspec.json.encode(Inherited(state, signals)).decode()
        self._enter(following, [(Kind.INHERITED, data)], command.data or "{}")


def inputs_of(history: list[Event]) -> list[int]:
    """Give the positions of a history's inputs."""
    return [position for position, event in enumerate(history) if event.kind in INPUTS]
