"""Results depend on nothing but code and inputs: not on who finishes first, nor on running inside an engine."""

from __future__ import annotations

import asyncio
import random
import selectors
from typing import Any

import msgspec
from hypothesis import given
from machine import Actor, Machine
from program_activities import Broken, effects
from program_def_interpreter import interpret_def
from program_interpreter import interpret
from property_settings import tries
from workflow_programs import confluent_programs, def_programs, plain_programs, receives, seeds

from perdure.events import Kind


def outcome(actor: Actor) -> Any:
    """Give an execution's end: its result, or the type of its failure."""
    assert actor.closing is not None
    data = msgspec.json.decode(actor.closing.data or "null")
    if actor.closing.kind is Kind.FAILED:
        return "failed", data["type"].partition(":")[2]
    return actor.closing.kind.name.lower(), data


def play(workflow, program, seed, evict=lambda: False) -> Machine:
    machine = Machine(random.Random(seed), evict, prompt=True)
    machine.play(workflow, program, receives(program))
    return machine


@tries(600)
@given(confluent_programs, seeds, seeds)
def test_any_order_of_completions_gives_the_same_result_and_effects(program, one_seed, other_seed):
    one, other = play(interpret, program, one_seed), play(interpret, program, other_seed, lambda: True)
    assert outcome(one.root) == outcome(other.root)
    assert one.done == other.done
    assert one.root.run.state == other.root.run.state


@tries(300)
@given(def_programs, seeds, seeds)
def test_a_def_workflow_gives_the_same_result_in_any_order(program, one_seed, other_seed):
    one, other = play(interpret_def, program, one_seed), play(interpret_def, program, other_seed, lambda: True)
    assert outcome(one.root) == outcome(other.root)
    assert one.done == other.done


@tries(150)
@given(def_programs, seeds)
def test_a_def_workflow_gives_what_the_async_one_gives(program, seed):
    translated = as_async(program)
    assert outcome(play(interpret_def, program, seed).root) == outcome(play(interpret, translated, seed).root)


def as_async(steps: list[Any]) -> list[Any]:
    """Write a program for the `def` interpreter in the steps of the other one."""
    made = []
    for name, *arguments in steps:
        match name:
            case "submit":
                made.append(["flat", [["act", key, 0, False] for key in arguments[0]]])
            case "try":
                made.append(["try", as_async(arguments[0])])
            case "cleanup" | "saga" | "patched":
                made.append([name, arguments[0], as_async(arguments[1])])
            case _:
                made.append([name, *arguments])
    return made


# --- outside an engine ----------------------------------------------------------------------------------------------


class Instant(selectors.SelectSelector):
    """A selector that never waits: the loop's clock jumps to the next timer instead."""

    elapsed = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.elapsed += timeout or 0.0
        return super().select(0 if timeout is not None else 0.01)


class JumpingLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.instant = Instant()
        super().__init__(self.instant)

    def time(self) -> float:
        return self.instant.elapsed


async def call_plainly(program: list[Any]) -> Any:
    try:
        return "completed", await interpret(program)
    except Broken:
        return "failed", "Broken"


@tries(150)
@given(plain_programs, seeds)
def test_a_workflow_gives_what_the_plain_function_gives(program, seed):
    effects.clear()
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        result, value = runner.run(call_plainly(program))
    machine = play(interpret, program, seed)
    recorded = msgspec.json.decode(msgspec.json.encode(value))
    assert outcome(machine.root) == (result, recorded)
    ended_well = {key: count for key, count in machine.done.items() if count}
    assert {key for key, _ in effects.seen} >= set(ended_well)
