"""Every prefix of every history replays: the commands that today's code gives are those that were recorded."""

from __future__ import annotations

import random
from collections.abc import Iterator
from itertools import zip_longest

import msgspec
from crash_oracle import BY_NAME

from perdure.engine.loading import unanswered
from perdure.errors import NonDeterminismError
from perdure.events import INPUTS, Event, Kind
from perdure.replay import Run
from perdure.replay.history import effective
from perdure.store.sqlite.contents import Entry

ALL_CUTS = 8
SOME_CUTS = 4


def check_prefixes(entry: Entry, choose: random.Random) -> Iterator[str]:
    """Replay a history from its start as recovery does, which compares with each recorded command; then again up to
    some input, and from there on live, as the runner does. Short histories are cut at each input."""
    events = effective(entry.events)
    events = events[: len(events) - len(unanswered(entry.row, events))]
    inputs = [position for position, event in enumerate(events) if event.kind in INPUTS]
    where = f"{entry.row.id}, run {entry.row.run}"
    try:
        with_all = _fresh(entry)
        try:
            with_all.replay(events)
        finally:
            with_all.evict()
        for cut in inputs if len(inputs) <= ALL_CUTS else choose.sample(inputs, SOME_CUTS):
            yield from (f"{where}: {problem}" for problem in _check_cut(entry, events, cut))
    except NonDeterminismError as error:
        yield f"{where} does not replay: {error}"


def _fresh(entry: Entry) -> Run:
    return Run(BY_NAME[entry.row.workflow], entry.row.id, entry.row.run)


def _check_cut(entry: Entry, events: list[Event], cut: int) -> Iterator[str]:
    """Replay what is before `cut`, and answer the next two inputs live."""
    run = _fresh(entry)
    try:
        run.replay(events[:cut])
        answered = 0
        position = cut
        while position < len(events) and answered < 2:
            input, position = events[position], position + 1
            recorded = []
            while position < len(events) and events[position].kind >= Kind.ACTIVITY_SCHEDULED:
                recorded.append(events[position])
                position += 1
            if input.kind not in INPUTS:
                run.seq = input.seq
                continue
            answered += 1
            for said, got in zip_longest(recorded, run.apply(input)):
                if said is None or got is None or not _alike(said, got):
                    yield f"after {input} the history has {said}, and live the code gives {got}"
                    return
    finally:
        run.evict()


def _alike(said: Event, got: Event) -> bool:
    if said == got:
        return True
    if said.kind is not got.kind or said.seq != got.seq or said.name != got.name or said.ref != got.ref:
        return False
    if said.kind is Kind.FAILED:  # messages and tracebacks name lines and addresses
        first, second = (msgspec.json.decode(event.data or "{}")["type"] for event in (said, got))
        return bool(first == second)
    return bool(msgspec.json.decode(said.data or "null") == msgspec.json.decode(got.data or "null"))
