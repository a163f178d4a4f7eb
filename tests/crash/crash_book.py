"""What a database holds at one moment, as the checks want it: runs by id, activities by step."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from perdure.events import CLOSING, Event, Kind
from perdure.replay.history import effective
from perdure.store.sqlite.contents import Entry
from perdure.testing.audit.standing import ACTIVITY_ENDS, AttemptNote

Step = tuple[str, int, int]


class Done:
    """One activity as its history has it."""

    def __init__(self, step: Step, scheduled: Event) -> None:
        self.step = step
        self.scheduled = scheduled
        self.notes: list[tuple[int, AttemptNote]] = []
        """Ends of attempts after which another came: (instant, note)."""
        self.ends: list[Event] = []
        """Mostly one; a failure that was taken back by a retry counts too."""
        self.parked = False
        """Whether its end waits in the inbox of a paused execution."""

    @property
    def name(self) -> str:
        return self.scheduled.name or ""

    @property
    def completed(self) -> bool:
        return any(event.kind is Kind.ACTIVITY_COMPLETED for event in self.ends)

    @property
    def last_attempt(self) -> int:
        """The number of the attempt that ended it, or that runs now."""
        return len(self.notes) + 1

    def count(self, reason: str) -> int:
        return sum(note.reason == reason for _, note in self.notes)


class Book:
    """See the module."""

    def __init__(self) -> None:
        self.runs: dict[str, list[Entry]] = defaultdict(list)
        """By id, oldest first."""
        self.by_num: dict[int, Entry] = {}
        self.activities: dict[Step, Done] = {}
        self.reopened: dict[str, list[tuple[int, int]]] = defaultdict(list)
        """Where an execution was opened again: (run, seq)."""

    def add(self, entry: Entry) -> None:
        row = entry.row
        self.runs[row.id].append(entry)
        self.by_num[row.num] = entry
        for event in entry.events:
            kind = event.kind
            if kind is Kind.ACTIVITY_SCHEDULED:
                step = (row.id, row.run, event.seq)
                self.activities[step] = Done(step, event)
            elif kind is Kind.ATTEMPT_FAILED:
                note = msgspec.json.decode(event.data or "", type=AttemptNote)
                self.activities[row.id, row.run, event.ref or 0].notes.append((event.at, note))
            elif kind in ACTIVITY_ENDS:
                self.activities[row.id, row.run, event.ref or 0].ends.append(event)
            elif kind is Kind.REOPENED:
                self.reopened[row.id].append((row.run, event.seq))
        for waiting in entry.inbox:
            if waiting.kind in ACTIVITY_ENDS:
                self.activities[row.id, row.run, waiting.ref or 0].parked = True

    def newest(self, id: str) -> Entry | None:
        return self.runs[id][-1] if id in self.runs else None

    def tries(self, step: Step) -> int:
        """Give how often the attempts of an activity may begin anew: a retry of its execution gives it others."""
        id, run, seq = step
        return 1 + sum(where == run and at > seq for where, at in self.reopened.get(id, ()))

    def events(self, id: str, kind: Kind) -> Iterator[Event]:
        """Give the events of one kind in all runs of an id, in order."""
        for entry in self.runs.get(id, ()):
            yield from (event for event in entry.events if event.kind is kind)

    def waiting(self, id: str) -> Iterator[tuple[str, int | None, str | None, str | None]]:
        """Give what the inbox has for all runs of an id: (what, kind, name, data)."""
        for entry in self.runs.get(id, ()):
            yield from ((row.what, row.kind, row.name, row.data) for row in entry.inbox)

    def closed(self, id: str) -> bool:
        newest = self.newest(id)
        return newest is not None and newest.row.status.closed


def closing(entry: Entry) -> Event | None:
    """Give the event that a run ended with, None while it is open."""
    last = entry.events[-1]
    return last if last.kind in CLOSING else None


def input_of(entry: Entry) -> dict[str, Any]:
    started = next(event for event in entry.events if event.kind is Kind.STARTED)
    found: dict[str, Any] = msgspec.json.decode(started.data or "{}")
    return found


def counting(entry: Entry) -> list[Event]:
    """Give the events that a retry has not taken back."""
    return effective(entry.events)
