"""Commits of the simulated runner, seen from outside: the points at which its process can die.

A crash right after a commit loses everything that would have followed from it; a crash in place of one loses what it
would have recorded, also results of activities that took effect.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from perdure.events import Event, Kind
from perdure.store import Batch, ExecutionRow
from perdure.store.sqlite import SqliteStore


class Crash(KeyboardInterrupt):
    """Unwinds the loop of a process that is killed: asyncio and the engine let a `KeyboardInterrupt` through."""


@dataclass(frozen=True)
class Commit:
    """One transaction of the runner, `before` it is written or after. `number` counts from 1, over restarts too."""

    number: int
    before: bool
    events: tuple[tuple[str, Event], ...]
    """(execution id, event)."""


class WatchedStore(SqliteStore):
    """A store that tells `watch` of each commit of the runner, before and after it, and after that of a client's."""

    watch: Callable[[list[tuple[ExecutionRow, Event]], bool], None] | None = None

    def commit(self, batch: Batch) -> None:
        if self.watch is not None:
            self.watch(batch.events, True)
        super().commit(batch)
        if self.watch is not None:
            self.watch(batch.events, False)

    def create(self, created: list[tuple[ExecutionRow, list[Event]]]) -> None:
        super().create(created)
        if self.watch is not None:
            self.watch([(row, event) for row, events in created for event in events], False)


@dataclass
class Trigger:
    """Crashes the process at the `count`-th event of some kind; see `Environment.crash_after`."""

    kind: Kind | None
    name: str | None
    id: str | None
    seq: int | None
    count: int
    before: bool
    restart_after_s: float | None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count must be at least 1, not {self.count}")

    def hit(self, row: ExecutionRow, event: Event, name: str | None) -> bool:
        """Say whether this event is the one. `name` is that of the event, or of the one that it answers."""
        if self.count <= 0 or self.kind not in (None, event.kind) or self.seq not in (None, event.seq):
            return False
        if self.id not in (None, row.id) or self.name not in (None, name):
            return False
        self.count -= 1
        return self.count == 0


class Names:
    """Names of activities, children and signals by the event that started them, for those that only refer to it."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, int, int], str] = {}

    def of(self, row: ExecutionRow, event: Event) -> str | None:
        if event.name is not None:
            self._names[row.id, row.run, event.seq] = event.name
        elif event.ref is not None:
            return self._names.get((row.id, row.run, event.ref))
        return event.name


def kind_of(event: str | None) -> Kind | None:
    """Find a kind by its name in the history. Raises `ValueError`."""
    if event is None:
        return None
    try:
        return Kind[event.upper()]
    except KeyError:
        known = ", ".join(kind.name.lower() for kind in Kind)
        raise ValueError(f"there is no event kind {event!r}; there are {known}") from None


def name_of(thing: Any) -> str | None:
    """Give the name of an activity, a workflow or a signal; a string is one."""
    name: str | None = thing if thing is None or isinstance(thing, str) else thing.name
    return name
