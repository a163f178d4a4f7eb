"""Replaying recorded histories against today's code, without running anything: what a deployment would block.

Each run is replayed as an engine that opens the file would do it: what was superseded by a retry is left out, what the
code has not answered yet is applied to it afresh, and what waits for a blocked or paused execution as well, so that a
call that the guard refuses is found. No activity runs, nothing is written, and nothing is sent.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from perdure.codec.payload import Codec, Payloads
from perdure.engine.registry import AnyWorkflow, Registry
from perdure.errors import InvalidValue, NonDeterminismError, StoreError, UnknownWorkflow
from perdure.events import Event, Kind
from perdure.guard import audit
from perdure.replay import Run, current_run
from perdure.store import InboxRow
from perdure.store.sqlite.recordings import Recordings, Selection, is_database
from perdure.store.target import database_path
from perdure.testing.recording import Recording, read_file, write_file
from perdure.testing.replay_report import Misfit, Mismatch, ReplayReport
from perdure.types import Status

Source = str | Path


def check_replay(
    source: Source | Iterable[Source],
    workflows: Iterable[AnyWorkflow | ModuleType],
    *,
    workflow: str | None = None,
    status: Sequence[Status | str] = (),
    ids: Sequence[str] = (),
    limit: int | None = None,
    codec: Codec | None = None,
    strict: bool = False,
    max_payload_bytes: int = 16 * 1024 * 1024,
    progress: Callable[[int, int | None], object] | None = None,
) -> ReplayReport:
    """Replay recorded histories against `workflows`, and report the first mismatch of each run that does not fit.

    `source` is a database (which is only read, also while a runner is at work on it), a history file (see
    `perdure.testing.recording`), a folder of these, or several of them. All runs are checked, open and closed, newest
    first; `workflow` (a name), `status`, `ids` and `limit` narrow it. Of a history file the status is not known, so a
    `status` leaves none. `strict` makes code that is not deterministic an error before anything is replayed.
    `progress` hears how many runs were checked, and of how many where that is known.

    Raises `StoreError` for a source that cannot be read, `InvalidValue` for a history file that is none, `DecodeError`
    never: what cannot be decoded is reported.
    """
    audit.install(current_run)
    registry = Registry(workflows, strict)
    selection = Selection(workflow, tuple(Status(one) for one in status), tuple(ids))
    report, began = ReplayReport(), time.perf_counter()
    sources = [source] if isinstance(source, str | Path) else list(source)
    payloads = Payloads(codec, max_payload_bytes)
    for recording, total in _recordings(sources, payloads, selection, limit):
        found = examine(recording, registry, max_payload_bytes)
        if found is not None:
            report.mismatches.append(found)
        report.checked += 1
        report.by_workflow[recording.row.workflow] += 1
        if progress is not None:
            progress(report.checked, total)
    report.took_s = time.perf_counter() - began
    return report


def save_histories(
    database: Source,
    file: Source,
    *,
    workflow: str | None = None,
    status: Sequence[Status | str] = (),
    ids: Sequence[str] = (),
    limit: int | None = None,
    codec: Codec | None = None,
) -> int:
    """Write histories of a database to a file that `check_replay` reads, newest first; give how many.

    What is encrypted in the database is in plain text in the file.
    """
    selection = Selection(workflow, tuple(Status(one) for one in status), tuple(ids))
    with Recordings(database_path(database), Payloads(codec)) as recordings:
        return write_file(Path(file), recordings.read(selection, limit))


# --- reading --------------------------------------------------------------------------------------------------------


def _recordings(
    sources: list[Source], payloads: Payloads, selection: Selection, limit: int | None
) -> Iterator[tuple[Recording, int | None]]:
    """Give each recording with the number of all of them, None where that is not known before the end."""
    left = limit
    for path in [path for source in sources for path in _files(source)]:
        if is_database(path):
            with Recordings(path, payloads) as recordings:
                total = recordings.count(selection) if len(sources) == 1 else None
                total = total if total is None or limit is None else min(total, limit)
                found: Iterator[Recording] = map(Recording.of, recordings.read(selection, left))
                for recording in found:
                    left = None if left is None else left - 1
                    yield recording, total
        else:
            for recording in read_file(path):
                if left == 0:
                    return
                if _selected(recording, selection):
                    left = None if left is None else left - 1
                    yield recording, None


def _files(source: Source) -> list[Path]:
    path = Path(source)
    if not path.is_dir():
        return [path if path.exists() else database_path(source)]
    found = sorted(path.glob("*.jsonl"))
    if not found:
        raise StoreError(f"the folder {path} has no history file", hint="history files are named *.jsonl")
    return found


def _selected(recording: Recording, selection: Selection) -> bool:
    row = recording.row
    return (
        not selection.status
        and selection.workflow in (None, row.workflow)
        and (not selection.ids or row.id in selection.ids)
    )


# --- replaying ------------------------------------------------------------------------------------------------------


def examine(recording: Recording, registry: Registry, max_bytes: int) -> Mismatch | None:
    """Replay one run; give what does not fit first."""
    if recording.problem is not None:
        return _mismatch(recording, Misfit.UNREADABLE, recording.problem)
    row = recording.row
    try:
        run = Run(registry.get(row.workflow), row.id, row.run, max_bytes)
    except UnknownWorkflow as error:
        return _mismatch(recording, Misfit.UNKNOWN_WORKFLOW, str(error.args[0]))
    try:
        _replay(run, recording)
    except NonDeterminismError as error:
        return _explained(recording, error)
    except Exception as error:  # as the runner does, which sets the execution aside and goes on with the others
        return _mismatch(recording, Misfit.UNREADABLE, f"{type(error).__name__}: {error}")
    finally:
        run.evict()
    return None


def _replay(run: Run, recording: Recording) -> None:
    past, unanswered = recording.parts()
    run.replay(past)
    for event in unanswered:
        run.apply(event)
    at = recording.events[-1].at if recording.events else 0
    for entry in recording.waiting:
        if run.closing is not None:
            return
        taken = _input(entry, run.seq + 1, at)
        if taken is None:
            return
        run.apply(taken)


def _input(entry: InboxRow, seq: int, at: int) -> Event | None:
    """Make the input that the runner would make of an entry of the inbox; None where that takes more than a look."""
    match entry.what:
        case _ if entry.problem is not None:
            return None
        case "event" | "signal":
            return Event(seq, Kind(entry.kind or Kind.SIGNAL_RECEIVED), at, entry.ref, entry.name, entry.data)
        case "cancel":
            return Event(seq, Kind.CANCEL_REQUESTED, at, None, None, entry.data or "null")
        case _:
            return None


def _explained(recording: Recording, error: NonDeterminismError) -> Mismatch:
    if error.seq is None:
        what = Misfit.REFUSED
    elif isinstance(error.__cause__, InvalidValue):
        what = Misfit.VALUE
    else:
        what = Misfit.MISMATCH
    return _mismatch(recording, what, str(error), error.seq, error.expected, error.got, error.source)


def _mismatch(
    recording: Recording,
    what: Misfit,
    message: str,
    seq: int | None = None,
    expected: str = "",
    got: str = "",
    source: str = "",
) -> Mismatch:
    row = recording.row
    return Mismatch(
        id=row.id, run=row.run, workflow=row.workflow, status=recording.status, what=what, message=message,
        seq=seq, expected=expected, got=got, source=source,
    )  # fmt: skip
