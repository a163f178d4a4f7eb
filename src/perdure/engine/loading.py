"""Bringing an execution into memory: replay its history, then find out where its activities stand."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import TypeVar

import msgspec

from perdure.codec.payload import DecodeError
from perdure.engine.attempt import Attempt, Phase
from perdure.engine.live import Live
from perdure.engine.registry import AnyWorkflow
from perdure.events import INPUTS, Event, Kind
from perdure.replay import Run
from perdure.replay.history import effective
from perdure.store import ExecutionRow, Store
from perdure.types import Status

T = TypeVar("T")
_NULL = msgspec.Raw(b"null")  # not None: `Raw | None` takes nothing but null


class AttemptNote(msgspec.Struct):
    """The data of an `ATTEMPT_FAILED` event."""

    attempt: int
    error: msgspec.Raw = _NULL
    retry_at: int | None = None
    details: msgspec.Raw = _NULL
    reason: str = "error"
    """`error`; `interrupted`: its process died; `stopped`: the engine closed in order."""

    @classmethod
    def of(cls, attempt: Attempt, reason: str, error: str | None = None, retry_at: int | None = None) -> AttemptNote:
        """Say how an attempt ended; `error` is JSON text, as are the attempt's `details`."""
        return cls(attempt.number, _raw(error), retry_at, _raw(attempt.details), reason)

    @property
    def error_text(self) -> str | None:
        return _text(self.error)

    @property
    def details_text(self) -> str | None:
        return _text(self.details)


def _raw(text: str | None) -> msgspec.Raw:
    return _NULL if text is None else msgspec.Raw(text.encode())


def _text(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text == "null" else text


class DeferredNote(msgspec.Struct):
    """The data of an `ATTEMPT_DEFERRED` event."""

    attempt: int
    secret: str


def unbegun(row: ExecutionRow, events: list[Event]) -> bool:
    """Say whether the workflow's code has not run yet: no more is recorded than what it starts with."""
    fresh = row.status is Status.PENDING or row.status is Status.BLOCKED
    return fresh and all(event.kind in (Kind.INHERITED, Kind.STARTED) for event in events)


def unanswered(row: ExecutionRow, events: list[Event]) -> list[Event]:
    """Give the events at the end of a history that the code has not seen: the first ones of an unbegun execution, or
    the input that a reopened one was given again."""
    if unbegun(row, events):
        return events
    if len(events) > 1 and events[-2].kind is Kind.REOPENED and events[-1].kind in INPUTS:
        return events[-1:]
    return []


def load(store: Store, row: ExecutionRow, workflow: AnyWorkflow, max_bytes: int) -> tuple[Live, list[Event]]:
    """Replay an execution. Gives it with the events that are still to be applied live.

    Raises `NonDeterminismError` when the code does not fit, `DecodeError` when the history cannot be read.
    """
    events = _whole(store.history(row.num))
    run = Run(workflow, row.id, row.run, max_bytes)
    live = Live(row, run)
    live.last_at = events[-1].at if events else row.created_at
    for event in events:
        if event.kind is Kind.PAUSED or event.kind is Kind.RESUMED:
            live.paused_at = event.at if event.kind is Kind.PAUSED else None
    first = unanswered(row, events)
    run.replay(events[: len(events) - len(first)])
    if first and row.status is Status.RUNNING:
        live.before = Status.PENDING  # what it leads to has not run, so it cannot have been interrupted
    live.timers = {seq: timer.due_us for seq, timer in run.loop.timers.items()}
    _find_attempts(store, live, events)
    if row.status is Status.PAUSED or row.status is Status.BLOCKED:
        for entry in store.parked(row.num):  # activities whose end waits there
            if entry.kind == Kind.ACTIVITY_COMPLETED or entry.kind == Kind.ACTIVITY_FAILED:
                live.attempts.pop(entry.ref or 0, None)
    for event in first:  # what it is about to be told of has ended
        live.timers.pop(event.ref or 0, None)
        live.attempts.pop(event.ref or 0, None)
    return live, first


def _whole(history: list[Event]) -> list[Event]:
    """Give what counts of a history, after looking that it is one: from 1 without gaps, and begun."""
    hint = "the file is damaged, or another program wrote to it: restore a backup, or terminate this execution"
    if not history or history[0].seq != 1 or history[-1].seq != len(history):
        raise DecodeError("its history has gaps", hint=hint)
    events = effective(history)
    first = islice((event for event in events if event.kind is not Kind.REOPENED), 2)  # a retry may go back so far
    if all(event.kind is not Kind.STARTED for event in first):
        raise DecodeError("its history does not say how it began", hint=hint)
    return events


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
                if attempt.seq < event.seq:  # the others began after that
                    attempt.failed = attempt.interrupted = 0
                    attempt.phase, attempt.clean = Phase.READY, True
        found = live.attempts.get(event.ref or event.seq)
        if found is None:
            continue
        if event.kind is Kind.ACTIVITY_SCHEDULED:
            found.scheduled_at = event.at
        elif event.kind is Kind.ATTEMPT_FAILED:
            note = _read(event, AttemptNote)
            live.attempts[found.seq] = _after(found, note)
        elif event.kind is Kind.ATTEMPT_DEFERRED:
            deferred = _read(event, DeferredNote)
            found.phase, found.secret_hash = Phase.DEFERRED, deferred.secret
    for seq, attempt in live.attempts.items():
        attempt.from_log = True
        beat = store.heartbeat(live.row.num, seq)
        if beat is not None and beat[0] == attempt.number:
            attempt.details, attempt.proved = beat[1], True


def _read(event: Event, type: type[T]) -> T:
    """Read the data of a note. Raises `DecodeError` for what somebody else wrote."""
    try:
        return msgspec.json.decode(event.data or "", type=type)
    except (msgspec.MsgspecError, RecursionError) as error:
        hint = "the file is damaged, or another program wrote to it"
        raise DecodeError(
            f"event #{event.seq} ({event.kind.name.lower()}) cannot be read: {error}", hint=hint
        ) from error


def _after(attempt: Attempt, note: AttemptNote) -> Attempt:
    """Make the attempt that follows the one of which `note` says how it ended."""
    attempt.details = note.details_text
    after = attempt.next()
    after.number = note.attempt + 1
    after.failed += note.reason == "error"
    after.interrupted += note.reason == "interrupted"
    after.clean = note.reason == "stopped"
    after.phase = Phase.READY if after.clean else Phase.BACKOFF
    after.retry_at = note.retry_at
    return after
