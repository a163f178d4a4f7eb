"""One recorded run of an execution, from a database or from a history file, ready to be replayed.

A history file has one JSON object a line, each an event, as `perdure history ID --json` prints it. It names the
execution (`id`, `run`) and has the event's `seq`, `kind`, `at` (ISO 8601), `ref`, `name` and, where there is any,
`data`. The lines of one run are in the order of `seq`; several runs may follow each other in one file. Where
nothing but the start is recorded there is nothing to compare: nobody can tell whether the code had run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby
from pathlib import Path

import msgspec

from perdure.engine.loading import unanswered
from perdure.errors import InvalidValue, StoreError
from perdure.events import INPUTS, Event, Kind
from perdure.replay.history import effective
from perdure.store import ExecutionRow, InboxRow
from perdure.store.sqlite.recordings import Recorded
from perdure.types import Status, instant, microseconds

_KINDS = {kind.name.lower(): kind for kind in Kind}
_BEGIN = (Kind.INHERITED, Kind.STARTED)


@dataclass(frozen=True)
class Recording:
    """See the module. `status` is None where it is not known, in a history file. `problem` says why the events cannot
    be read; then there are none."""

    row: ExecutionRow
    events: list[Event]
    status: Status | None = None
    waiting: list[InboxRow] = field(default_factory=list)
    """What a blocked or paused execution could not take yet."""
    problem: str | None = None

    @classmethod
    def of(cls, recorded: Recorded) -> Recording:
        return cls(recorded.row, recorded.events, recorded.row.status, recorded.waiting, recorded.problem)

    def parts(self) -> tuple[list[Event], list[Event]]:
        """Give what is to be replayed and compared, and the inputs at its end that the code has not answered yet."""
        events = effective(self.events)
        if events and events[-1].kind is Kind.TERMINATED:
            return _before_termination(events[:-1]), []
        last = unanswered(self.row, events)
        return events[: len(events) - len(last)], last


def _before_termination(events: list[Event]) -> list[Event]:
    """Leave out the last input if the code may never have answered it: what was blocked can be terminated, too."""
    if all(event.kind in _BEGIN for event in events):
        return []
    if len(events) > 1 and events[-2].kind is Kind.REOPENED and events[-1].kind in INPUTS:
        return events[:-1]
    return events


# --- history files --------------------------------------------------------------------------------------------------


class Line(msgspec.Struct):
    """One line of a history file."""

    id: str
    run: int
    seq: int
    kind: str
    at: datetime
    ref: int | None = None
    name: str | None = None
    data: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET

    @classmethod
    def of(cls, id: str, run: int, event: Event) -> Line:
        data = msgspec.UNSET if event.data is None else msgspec.Raw(event.data.encode())
        return cls(id, run, event.seq, event.kind.name.lower(), instant(event.at), event.ref, event.name, data)

    def event(self) -> Event:
        """Raises `KeyError` for a kind that there is not."""
        data = None if isinstance(self.data, msgspec.UnsetType) else bytes(self.data).decode()
        return Event(self.seq, _KINDS[self.kind], microseconds(self.at), self.ref, self.name, data)


_decoder = msgspec.json.Decoder(Line)
_encoder = msgspec.json.Encoder()


def read_file(path: Path) -> Iterator[Recording]:
    """Give the recordings of a history file in order. Raises `StoreError` when it cannot be read, `InvalidValue` with
    the number of the line that is not an event."""
    try:
        with path.open("rb") as file:
            lines = (_parse(path, number, text) for number, text in enumerate(file, 1) if text.strip())
            for (id, run), events in groupby(lines, key=lambda line: (line.id, line.run)):
                yield _recording(path, id, run, events)
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}", hint="check the path") from error


def _parse(path: Path, number: int, text: bytes) -> Line:
    try:
        line = _decoder.decode(text)
        line.event()
    except (msgspec.MsgspecError, ValueError, TypeError, KeyError) as error:
        reason = f"unknown kind {error}" if isinstance(error, KeyError) else str(error)
        raise InvalidValue(
            f"{path}, line {number} is not an event of a history: {reason}",
            hint="a history file is what `perdure history ID --json` prints",
        ) from error
    return line


def _recording(path: Path, id: str, run: int, lines: Iterable[Line]) -> Recording:
    events = [line.event() for line in lines]
    for expected, event in enumerate(events, 1):
        if event.seq != expected:
            raise InvalidValue(
                f"{path}: the history of {id} (run {run}) has event #{event.seq} where #{expected} should be",
                hint="a history has to be whole, from #1, and its lines in order",
            )
    started = next((event for event in events if event.kind is Kind.STARTED), None)
    if started is None:
        raise InvalidValue(f"{path}: the history of {id} (run {run}) does not say how it was started")
    begun = any(event.kind not in _BEGIN for event in events)  # else it may have been saved before its code ran
    status = Status.RUNNING if begun else Status.PENDING
    row = ExecutionRow(id, started.name or "", started.at, run=run, status=status)
    return Recording(row, events)


def write_file(path: Path, recordings: Iterable[Recorded]) -> int:
    """Write a history file; give how many runs are in it. What cannot be read is left out."""
    written = 0
    with path.open("wb") as file:
        for recorded in recordings:
            row = recorded.row
            file.writelines(_encoder.encode(Line.of(row.id, row.run, event)) + b"\n" for event in recorded.events)
            written += bool(recorded.events)
    return written
