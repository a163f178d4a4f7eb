"""What every history looks like, whatever its code is.

1. `seq` runs from 1 without gaps, and instants never go back.
2. It begins with `STARTED`, before that at most `INHERITED`.
3. Commands follow an input or another command, never a note: the answer to an input is written as one piece.
4. What an event refers to is there, of the right kind, and ends at most once.
5. Nothing follows the end, unless the execution is opened again.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from perdure.events import CLOSING, COMMANDS, NOTES, Event, Kind
from perdure.replay.history import effective
from perdure.testing.audit.standing import ACTIVITY_ENDS, CHILD_ENDS

_ATTEMPT_NOTES = (Kind.ATTEMPT_FAILED, Kind.ATTEMPT_DEFERRED, Kind.ATTEMPT_LOG)
_REFERS_TO: dict[Kind, Kind] = {
    **dict.fromkeys([*ACTIVITY_ENDS, *_ATTEMPT_NOTES], Kind.ACTIVITY_SCHEDULED),
    **dict.fromkeys([Kind.TIMER_FIRED, Kind.TIMER_CANCELLED], Kind.TIMER_STARTED),
    **dict.fromkeys([*CHILD_ENDS, Kind.CHILD_CANCEL_REQUESTED], Kind.CHILD_STARTED),
}
_ENDS = frozenset({*ACTIVITY_ENDS, *CHILD_ENDS, Kind.TIMER_FIRED, Kind.TIMER_CANCELLED})


def check_grammar(events: list[Event]) -> Iterator[str]:
    """Give what is wrong with a history, as sentences."""
    if not events:
        yield "there is no event"
        return
    yield from _check_order(events)
    yield from _check_neighbours(events)
    counting = effective(events)
    yield from _check_beginning([event for event in counting if event.kind is not Kind.REOPENED])
    yield from _check_references(counting)


def _check_order(events: list[Event]) -> Iterator[str]:
    last_at = events[0].at
    for expected, event in enumerate(events, 1):
        if event.seq != expected:
            yield f"event #{expected} is missing, #{event.seq} is in its place"
            return
        if event.at < last_at:
            yield f"{event} is earlier than the one before"
        last_at = event.at


def _check_beginning(events: list[Event]) -> Iterator[str]:
    first = events[1:] if events and events[0].kind is Kind.INHERITED else events
    if events and (not first or first[0].kind is not Kind.STARTED):
        yield f"it begins with {events[0]}"
    for event in first[1:]:
        if event.kind in (Kind.STARTED, Kind.INHERITED):
            yield f"{event} comes in the middle"


def _check_neighbours(events: list[Event]) -> Iterator[str]:
    for before, event in pairwise(events):
        if event.kind in COMMANDS and before.kind in NOTES:
            yield f"{event} answers no input: it follows {before}"
        if event.kind is Kind.REOPENED:
            if before.kind not in CLOSING:
                yield f"{event} follows {before}, which is no end"
        elif before.kind in CLOSING:
            yield f"{event} follows the end, {before}"


def _check_references(events: list[Event]) -> Iterator[str]:
    known = {event.seq: event for event in events}
    ended: dict[int, Event] = {}
    for event in events:
        target = _REFERS_TO.get(event.kind)
        if target is None:
            continue
        found = known.get(event.ref or 0)
        if found is None or found.kind is not target or found.seq >= event.seq:
            yield f"{event} refers to {found or 'nothing'}"
        elif event.kind in _ENDS:
            if found.seq in ended:
                yield f"{event} ends what {ended[found.seq]} had ended"
            ended[found.seq] = event
        elif event.kind in _ATTEMPT_NOTES and found.seq in ended:
            yield f"{event} tells of an attempt after {ended[found.seq]}"
