"""Whether executions agree with each other: parents with their children, a run with the one that it continues."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from perdure.events import Event, Kind
from perdure.replay.history import Inherited
from perdure.store.sqlite.contents import Entry, Relative
from perdure.testing.audit.projections import Parked
from perdure.testing.audit.standing import Standing
from perdure.types import Status

_TOLD_AS = {
    Status.COMPLETED: Kind.CHILD_COMPLETED,
    Status.FAILED: Kind.CHILD_FAILED,
    Status.CANCELLED: Kind.CHILD_CANCELLED,
    Status.TERMINATED: Kind.CHILD_FAILED,
}


def check_children(entry: Entry, standing: Standing) -> Iterator[str]:
    """Every child was started by its parent, and every end of a child reached its parent."""
    starts = {event.seq: event for event in entry.events if event.kind is Kind.CHILD_STARTED}
    newest: dict[int, Relative] = {}
    for child in entry.children:
        started = starts.get(child.row.parent_seq or 0)
        if started is None or started.name != child.row.workflow:
            yield f"its child {child.row.id} was started by {started or 'nothing'}"
        elif child.row.parent_seq in standing.children:
            newest[started.seq] = child
            if standing.children[started.seq].id != child.row.id:
                yield f"{started} has the child {child.row.id}"
    parked = Parked(entry.inbox)
    for seq, started in starts.items():
        if seq in standing.children and standing.children[seq].on_parent_end != "abandon":
            yield from _check_child(entry, standing, started, newest.get(seq), seq in parked.ends)


def _check_child(
    entry: Entry, standing: Standing, started: Event, child: Relative | None, parked: bool
) -> Iterator[str]:
    told = standing.child_ends.get(started.seq)
    if child is None:
        if told is None and not parked and not entry.row.status.closed:
            yield f"the child of {started} is missing"
        return
    if told is None and not parked and child.row.status.closed and not entry.row.status.closed:
        yield f"it was not told that its child {child.row.id} is {child.row.status}"
    if told is not None and child.closing is not None:
        yield from _check_told(told, child)


def _check_told(told: Event, child: Relative) -> Iterator[str]:
    """What a parent was told of its child's end is how it ended, unless it was opened again since."""
    assert child.closing is not None
    if child.row.status is Status.CONTINUED or told.at < child.closing.at:
        return
    if told.kind is not _TOLD_AS[child.row.status]:
        yield f"its child {child.row.id} is {child.row.status}, and it was told {told}"
    elif child.row.status in (Status.COMPLETED, Status.FAILED) and told.data != child.closing.data:
        yield f"its child {child.row.id} ended with {child.closing}, and it was told {told}"


def check_run(entry: Entry, state_before: dict[str, str] | None) -> Iterator[str]:
    """A run that continues another has its input from there, and its readable state.

    `state_before` is the state of the run before, None where there is none.
    """
    before = entry.before
    if before is None or before.closing is None or before.row.status is not Status.CONTINUED:
        return
    started = next((event for event in entry.events if event.kind is Kind.STARTED), None)
    if started is not None and started.data != before.closing.data:
        yield f"it starts with {started}, and the run before ended with {before.closing}"
    if entry.row.workflow != before.row.workflow or entry.row.parent != before.row.parent:
        yield f"its workflow or parent is not that of the run before, {before.row.workflow} of {before.row.parent}"
    if state_before is not None and state_before != inherited_state(entry.events):
        yield f"it inherited the state {inherited_state(entry.events)}, and the run before left {state_before}"


def inherited_state(events: list[Event]) -> dict[str, str]:
    if not events or events[0].kind is not Kind.INHERITED:
        return {}
    inherited = msgspec.json.decode(events[0].data or "", type=Inherited)
    return {key: bytes(raw).decode() for key, raw in inherited.state.items()}
