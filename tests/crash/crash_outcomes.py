"""Once everything has ended: the results against the oracle's."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec
from crash_book import Book, closing, counting, input_of
from crash_effects import Effects
from crash_oracle import expected
from crash_words import Words

from perdure.events import Event, Kind
from perdure.store.sqlite.contents import Entry
from perdure.types import Status


def check_outcomes(book: Book, words: Words, effects: Effects) -> Iterator[str]:
    for id, runs in book.runs.items():
        newest = runs[-1]
        end = closing(newest)
        where = f"{id} ({newest.row.workflow} with {input_of(runs[0])})"
        if end is None:
            yield f"{where} did not end: {newest.row.status}, {newest.events[-1]}"
        elif newest.row.workflow in ("collect", "relay"):
            yield from _check_received(book, words, id, end)
        else:
            yield from _check_end(newest, runs[0], end, words, where)
        if newest.row.workflow == "undone" and newest.row.status is not Status.TERMINATED:
            yield from _check_undone(newest, effects)


def _check_end(newest: Entry, first: Entry, end: Event, words: Words, where: str) -> Iterator[str]:
    id = newest.row.id
    if end.kind is Kind.TERMINATED:
        if not words.asked["terminate", id]:
            yield f"{where} was terminated, and nobody asked for that"
        return
    if end.kind is Kind.CANCELLED:
        asked = words.asked["cancel", id] or newest.row.parent is not None
        asked = asked or newest.row.workflow in ("guarded", "tick")
        if not asked or not any(event.kind is Kind.CANCEL_REQUESTED for event in counting(newest)):
            yield f"{where} was cancelled, and nobody asked for that"
        return
    found = msgspec.json.decode(end.data or "null")
    if end.kind is Kind.FAILED:
        found = found["type"].rpartition(":")[2]
    allowed = expected(newest.row.workflow, input_of(first))
    if found not in allowed:
        yield f"{where} gave {found}, expected {allowed}"


def _check_received(book: Book, words: Words, id: str, end: Event) -> Iterator[str]:
    """What a receiver gives is what its history says that it received, and has all that was acknowledged."""
    received = [msgspec.json.decode(event.data or "") for event in book.events(id, Kind.SIGNAL_RECEIVED)]
    if end.kind is not Kind.COMPLETED or msgspec.json.decode(end.data or "") != [n for n in received if n >= 0]:
        yield f"{id} received {received} and ended with {end}"
    lost = {value for _, value in words.values[id]} - set(received)
    if lost:
        yield f"{id} never received {sorted(lost)}, which were acknowledged"


def _check_undone(entry: Entry, effects: Effects) -> Iterator[str]:
    """Every step that a saga began was undone."""
    names = [
        msgspec.json.decode(event.data or "")["key"] for event in entry.events if event.kind is Kind.ACTIVITY_SCHEDULED
    ]
    done = {name.removeprefix("do") for name in names if name.startswith("do")}
    undone = {key.removeprefix("undo") for id, key in effects.keys if id == entry.row.id and key.startswith("undo")}
    if done != undone:
        yield f"{entry.row.id} did {sorted(done)} and undid {sorted(undone)}"
