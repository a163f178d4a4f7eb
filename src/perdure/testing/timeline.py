"""An execution's history as a person reads it: when, what, with what, and what happened to its process in between."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

import msgspec

from perdure.codec import decode_failure
from perdure.engine.loading import AttemptNote
from perdure.types import ExecutionInfo, HistoryEvent, instant

WIDE = 100
_FAILURES = ("failed", "activity_failed", "child_failed")
_ANSWERS = ("activity_", "child_", "timer_", "attempt_")


class Mark(NamedTuple):
    """Something that happened to all executions, such as a crash. `after` is how many commits there were before."""

    at: datetime
    text: str
    seen: dict[tuple[str, int], int]
    """The last event of each run that was recorded by then: (id, run) to seq."""


def timeline(info: ExecutionInfo, events: Sequence[HistoryEvent], marks: Iterable[Mark] = ()) -> str:
    """Write the history of one run, one line for each event."""
    run = f", run {info.run}" if info.run > 1 else ""
    head = f"{info.id}: {info.workflow}{run}, {info.status}, {info.created_at:%Y-%m-%d %H:%M:%S} UTC"
    lines = [head, *_lines(info, events, list(marks))]
    if info.problem:
        lines.append(f"  problem: {info.problem}")
    return "\n".join(lines)


def _lines(info: ExecutionInfo, events: Sequence[HistoryEvent], marks: list[Mark]) -> Iterator[str]:
    names = {event.seq: event.name or event.kind.partition("_")[0] for event in events}
    for event in events:
        while marks and marks[0].seen.get((info.id, info.run), 0) < event.seq:
            yield _mark(marks.pop(0), info)
        after = f"+{span(event.at - info.created_at)}"
        yield f"  {after:>12}  {'#' + str(event.seq):>4} {_text(event, names)}".rstrip()
    for mark in marks:
        if info.ended_at is None or mark.at <= info.ended_at:
            yield _mark(mark, info)


def _mark(mark: Mark, info: ExecutionInfo) -> str:
    return f"  {'+' + span(mark.at - info.created_at):>12}  ---- {mark.text}"


def _text(event: HistoryEvent, names: dict[int, str]) -> str:
    name = event.name or ""
    if event.ref is not None and event.kind.startswith(_ANSWERS):
        name = f"{names.get(event.ref, '')} (#{event.ref})"
    return " ".join(part for part in (f"{event.kind:<19}", name, _shorten(_gist(event))) if part)


def _gist(event: HistoryEvent) -> str:
    data = event.data or ""
    if event.kind in _FAILURES:
        return _failure(data)
    if event.kind == "attempt_failed":
        note = msgspec.json.decode(data, type=AttemptNote)
        error = note.reason if note.error_text is None else _failure(note.error_text)
        again = "" if note.retry_at is None else f", again in {span(instant(note.retry_at) - event.at)}"
        return f"attempt {note.attempt}: {error}{again}"
    if event.kind == "attempt_deferred":
        return "waits for its completion from outside"
    if event.kind == "timer_started":
        return f"for {span(instant(int(data or 0)) - event.at)}"
    if event.kind == "child_started":
        return str(msgspec.json.decode(data).get("id", ""))
    return "" if data == "null" and event.kind in ("cancel_requested", "cancelled", "terminated") else data


def _failure(data: str) -> str:
    failure = decode_failure(data)
    lines = failure.message.splitlines()
    return f"{failure.type.rpartition(':')[2]}: {lines[0]}" if lines else failure.type.rpartition(":")[2]


def _shorten(text: str) -> str:
    return text if len(text) <= WIDE else text[: WIDE - 1] + "…"


def span(duration: timedelta) -> str:
    """Write a duration exactly and short: `0s`, `1.25s`, `2m03s`, `30d`, `1d02h`."""
    us = abs(duration) // timedelta(microseconds=1)
    sign = "-" if duration < timedelta(0) else ""
    days, rest = divmod(us, 86_400_000_000)
    hours, rest = divmod(rest, 3_600_000_000)
    minutes, rest = divmod(rest, 60_000_000)
    seconds = f"{rest / 1e6:.6f}".rstrip("0").rstrip(".")
    parts = [(days, "d"), (hours, "h"), (minutes, "m")]
    text = "".join(f"{number}{unit}" for number, unit in parts if number)
    return sign + (text + (f"{seconds}s" if rest or not text else ""))
