"""Why an execution does not go on, in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from perdure.engine import loading
from perdure.engine.attempt import Phase
from perdure.engine.live import Live
from perdure.engine.registry import Registry
from perdure.errors import PerdureError
from perdure.store import ExecutionRow, Store
from perdure.types import Status, instant

MAX_BYTES = 1 << 40


def obstacles(store: Store, registry: Registry, row: ExecutionRow) -> str:
    """Say what an open execution waits for, its children included."""
    return "; ".join(_reasons(store, registry, row, 0)) or "waits for nothing that is recorded"


def _reasons(store: Store, registry: Registry, row: ExecutionRow, depth: int) -> Iterator[str]:
    if row.status is Status.PAUSED:
        yield "is paused"
        return
    if row.status is Status.BLOCKED:
        yield f"is blocked: {row.problem}"
        return
    try:
        live, _ = loading.load(store, row, registry.get(row.workflow), MAX_BYTES)
    except PerdureError as error:
        yield f"cannot be replayed: {error}"
        return
    run = live.run
    assert run is not None
    try:
        yield from _waits(store, registry, live, depth)
    finally:
        run.evict()


def _waits(store: Store, registry: Registry, live: Live, depth: int) -> Iterator[str]:
    run = live.run
    assert run is not None
    for name, box in run.mailboxes.items():
        if any(not receiver.done() for receiver in box.receivers):
            yield f"waits for signal {name!r}"
    for attempt in live.attempts.values():
        yield f"waits for activity {attempt.activity} ({_PHASES[attempt.phase](attempt.number)})"
    for call in run.open.values():
        child = store.find(call.execution_id) if call.execution_id is not None else None
        if child is not None and not child.status.closed and depth < 5:
            inner = "; ".join(_reasons(store, registry, child, depth + 1))
            yield f"waits for its child {child.id}, which {inner}" if inner else f"waits for its child {child.id}"
    for due_us in sorted(live.timers.values()):
        yield f"waits for a timer at {instant(due_us):%Y-%m-%d %H:%M:%S} UTC"


_PHASES: dict[Phase, Callable[[int], str]] = {
    Phase.READY: lambda number: f"attempt {number} has not answered",
    Phase.RUNNING: lambda number: f"attempt {number} has not answered",
    Phase.BACKOFF: lambda number: f"attempt {number} is to come",
    Phase.DEFERRED: lambda number: "to be completed from outside with its token",
}
