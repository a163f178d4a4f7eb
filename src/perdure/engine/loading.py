"""Bringing an execution into memory: replay its history, then find out where its activities stand."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from perdure.engine.attempt import Attempt, Phase
from perdure.engine.live import Live
from perdure.engine.registry import AnyWorkflow
from perdure.events import Event, Kind
from perdure.replay import Run
from perdure.replay.run import effective
from perdure.store import ExecutionRow, Store
from perdure.types import Status


class AttemptNote(msgspec.Struct):
    """The data of an `ATTEMPT_FAILED` event."""

    attempt: int
    error: msgspec.Raw | None = None
    retry_at: int | None = None
    details: msgspec.Raw | None = None
    reason: str = "error"
    """`error`; `interrupted`: its process died; `stopped`: the engine closed in order."""


class DeferredNote(msgspec.Struct):
    """The data of an `ATTEMPT_DEFERRED` event."""

    attempt: int
    secret: str


def unbegun(row: ExecutionRow, events: list[Event]) -> bool:
    """Say whether the workflow's code has not run yet: no more is recorded than what it starts with."""
    fresh = row.status is Status.PENDING or row.status is Status.BLOCKED
    return fresh and all(event.kind in (Kind.INHERITED, Kind.STARTED) for event in events)


def load(store: Store, row: ExecutionRow, workflow: AnyWorkflow, max_bytes: int) -> tuple[Live, list[Event]]:
    """Replay an execution. Gives it with the events still to be applied live: its first ones when it is unbegun.

    Raises `NonDeterminismError` when the code does not fit.
    """
    events = effective(store.history(row.num))
    run = Run(workflow, row.id, row.run, max_bytes)
    live = Live(row, run)
    live.last_at = events[-1].at if events else row.created_at
    if unbegun(row, events):
        return live, events
    run.replay(events)
    live.timers = {seq: timer.due_us for seq, timer in run.loop.timers.items()}
    _find_attempts(store, live, events)
    return live, []


def _find_attempts(store: Store, live: Live, events: Iterable[Event]) -> None:
    assert live.run is not None
    for seq, call in live.run.open.items():
        if call.execution_id is None:
            live.attempts[seq] = Attempt(live, seq, call.target, call.data, 0)
    if not live.attempts:
        return
    for event in events:
        if event.kind is Kind.REOPENED:  # tried again by a person: the count starts anew
            for attempt in live.attempts.values():
                attempt.failed = attempt.interrupted = 0
                attempt.phase, attempt.clean = Phase.READY, True
        found = live.attempts.get(event.ref or event.seq)
        if found is None:
            continue
        if event.kind is Kind.ACTIVITY_SCHEDULED:
            found.scheduled_at = event.at
        elif event.kind is Kind.ATTEMPT_FAILED:
            _failed_before(found, msgspec.json.decode(event.data or "{}", type=AttemptNote))
        elif event.kind is Kind.ATTEMPT_DEFERRED:
            note = msgspec.json.decode(event.data or "{}", type=DeferredNote)
            found.phase, found.secret_hash = Phase.DEFERRED, note.secret
    for seq, attempt in live.attempts.items():
        beat = store.heartbeat(live.row.num, seq)
        if beat is not None and beat[0] == attempt.number:
            attempt.details = beat[1]


def _failed_before(attempt: Attempt, note: AttemptNote) -> None:
    attempt.details = None if note.details is None else bytes(note.details).decode()
    attempt.next()
    attempt.number = note.attempt + 1
    attempt.failed += note.reason == "error"
    attempt.interrupted += note.reason == "interrupted"
    attempt.clean = note.reason == "stopped"
    attempt.phase = Phase.READY if attempt.clean else Phase.BACKOFF
    attempt.retry_at = note.retry_at
