"""Replay: any prefix of any history leads to exactly the commands recorded after it, or to an error that names the
event."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine import Actor, Machine, inputs_of
from program_def_interpreter import interpret_def
from program_interpreter import interpret
from property_settings import tries
from workflow_programs import confluent_programs, def_programs, racing_programs, receives, seeds

from perdure import NonDeterminismError
from perdure.events import COMMANDS, INPUTS, Event, Kind
from perdure.replay import Run

programs = st.one_of(
    st.tuples(st.just(interpret), racing_programs),
    st.tuples(st.just(interpret), racing_programs),
    st.tuples(st.just(interpret), confluent_programs),
    st.tuples(st.just(interpret_def), def_programs),
)


def play(workflow, program, seed, evict=lambda: False) -> Machine:
    schedule = random.Random(seed)
    machine = Machine(schedule, evict, cancels=schedule.choice([0, 0, 0, 1, 2]))
    machine.play(workflow, program, receives(program))
    return machine


def fresh(actor: Actor) -> Run:
    return Run(actor.workflow, actor.id, actor.number)


def some(items: list[int], seed: int, most: int = 12) -> list[int]:
    return items if len(items) <= most else sorted(random.Random(seed).sample(items, most))


@tries(1500)
@given(programs, seeds)
def test_any_prefix_replays_and_goes_on_with_the_recorded_commands(workflow_and_program, seed):
    """Cut every history at its inputs, rebuild the run from what is before, give it the next input live."""
    for actor in play(*workflow_and_program, seed).actors:
        inputs = inputs_of(actor.history)
        for at in some(inputs, seed):
            run = fresh(actor)
            run.replay(actor.history[:at])
            run.seq = actor.history[at].seq - 1  # that of the last note
            answer = run.apply(actor.history[at])
            following = [event for event in actor.history[at + 1 :] if event.kind not in INPUTS]
            until = next((i for i in inputs if i > at), len(actor.history))
            recorded = [event for event in actor.history[at + 1 : until] if event.kind in COMMANDS]
            assert answer == recorded, (actor.id, at, following)
            assert run.seq <= actor.history[until - 1].seq
            run.evict()


@tries(400)
@given(programs, seeds)
def test_a_whole_history_replays_to_the_same_end(workflow_and_program, seed):
    for actor in play(*workflow_and_program, seed).actors:
        run = fresh(actor)
        run.replay(actor.history)
        assert run.closing == actor.closing is not None
        assert run.seq == actor.history[-1].seq == len(actor.history)
        assert run.state == actor.run.state
        assert list(run.unreceived()) == list(actor.run.unreceived())
        assert [event.seq for event in actor.history] == list(range(1, len(actor.history) + 1))
        assert actor.history[-1] == actor.closing


@tries(800)
@given(programs, seeds, st.integers(0, 2**32 - 1))
def test_eviction_before_any_input_changes_nothing_at_all(workflow_and_program, seed, eviction_seed):
    """The same schedule with and without eviction gives the same histories, to the byte."""
    kept = play(*workflow_and_program, seed)
    eviction = random.Random(eviction_seed)
    often = eviction.choice([0.1, 0.5, 1.0])
    evicted = play(*workflow_and_program, seed, lambda: eviction.random() < often)
    assert [(a.id, a.number, a.history) for a in kept.actors] == [(a.id, a.number, a.history) for a in evicted.actors]


@tries(500)
@given(programs, seeds)
def test_a_command_answer_that_is_cut_short_is_refused(workflow_and_program, seed):
    """An input and its answer commit together, so such a history is damaged: replay says so and issues nothing."""
    for actor in play(*workflow_and_program, seed).actors:
        commands = [i for i, event in enumerate(actor.history) if event.kind in COMMANDS]
        # code under `patched` runs as before the change where no PATCHED is recorded: that history would be a sound one
        for at in some([i for i in commands if not cuts_a_patch(actor.history, i)], seed):
            cut = actor.history[:at]
            run = fresh(actor)
            with pytest.raises(NonDeterminismError) as caught:
                run.replay(cut)
            assert caught.value.seq == actor.history[at].seq
            run.evict()


def cuts_a_patch(history: list[Event], at: int) -> bool:
    for event in history[at:]:
        if event.kind in INPUTS:
            return False
        if event.kind is Kind.PATCHED:
            return True
    return False


@tries(1000)
@given(programs, seeds)
def test_a_changed_command_is_named(workflow_and_program, seed):
    choose = random.Random(seed)
    for actor in play(*workflow_and_program, seed).actors:
        commands = [i for i, event in enumerate(actor.history) if event.kind in COMMANDS]
        # a PATCHED of another id reads as the marker of a call that was taken out since
        for at in some([i for i in commands if actor.history[i].kind is not Kind.PATCHED], seed, most=4):
            recorded = actor.history[at]
            changed = change(recorded, choose)
            run = fresh(actor)
            with pytest.raises(NonDeterminismError) as caught:
                run.replay([*actor.history[:at], changed, *actor.history[at + 1 :]])
            error = caught.value
            assert error.seq == recorded.seq
            assert f"#{recorded.seq}" in str(error)
            assert error.expected == str(changed)
            assert error.got != error.expected
            assert actor.id in str(error)
            run.evict()


def change(event: Event, choose: random.Random) -> Event:
    """Make one command another one: its kind, its name, its reference or its data."""
    fields = {"kind": Kind.STATE_SET if event.kind is not Kind.STATE_SET else Kind.SIGNAL_SENT}
    options = [fields]
    if event.name is not None:
        options.append({"name": event.name + "x"})
    if event.ref is not None:
        options.append({"ref": event.ref + 1})
    if event.data is not None and event.kind is not Kind.FAILED:  # a failure's text may differ, its type may not
        options.append({"data": _other(event)})
    if event.kind is Kind.FAILED:
        failure = msgspec.json.decode(event.data)
        options.append({"data": msgspec.json.encode({**failure, "type": "builtins:OSError"}).decode()})
    return msgspec.structs.replace(event, **choose.choice(options))


def _other(event: Event) -> str:
    data = msgspec.json.decode(event.data or "")
    if event.kind is Kind.ACTIVITY_SCHEDULED:
        data["key"] += "x"
    elif event.kind is Kind.CHILD_STARTED:
        data["id"] += "x"
    elif event.kind is Kind.TIMER_STARTED:
        data += 1
    else:
        data = [data]
    return msgspec.json.encode(data).decode()


@tries(400)
@given(programs, seeds)
def test_a_missing_or_an_added_command_is_found(workflow_and_program, seed):
    choose = random.Random(seed)
    for actor in play(*workflow_and_program, seed).actors:
        commands = [i for i, event in enumerate(actor.history) if event.kind in COMMANDS]
        commands = [i for i in commands if actor.history[i].kind is not Kind.PATCHED]
        for at in some(commands, seed, most=2):
            before, event, after = actor.history[:at], actor.history[at], actor.history[at + 1 :]
            added = Event(event.seq, Kind.STATE_SET, event.at, None, f"added {choose.random()}", "1")
            for damaged in ([*before, *after], [*before, added, event, *after]):
                with pytest.raises(NonDeterminismError) as caught:
                    fresh(actor).replay(damaged)
                assert caught.value.seq >= event.seq


@tries(200)
@given(programs, seeds)
def test_a_run_belongs_to_its_code(workflow_and_program, seed):
    """The history of one program does not replay with another, unless that does the same so far."""
    workflow, program = workflow_and_program
    other = [["act", "another key", 0, False], *program]
    for actor in play(workflow, program, seed).actors[:1]:
        started = actor.history[0]
        data = msgspec.json.encode({"program": other}).decode()
        history = [msgspec.structs.replace(started, data=data), *actor.history[1:]]
        with pytest.raises(NonDeterminismError):
            fresh(actor).replay(history)
