"""Where code and history part: the comparison of a command with the recorded one, and the errors that say so."""

from __future__ import annotations

import inspect
import sys
import traceback
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.errors import NonDeterminismError
from perdure.events import Event, Kind
from perdure.replay.bridge import drive

if TYPE_CHECKING:
    from perdure.replay.run import Run

_HINT = (
    "the code changed, or does something that replay cannot repeat. Run code that fits this history, or keep the old "
    'path beside the new one with `if patched("…"):`'
)
_OURS = str(Path(__file__).parent.parent)


def fits(expected: Event, got: Event, target: Any) -> bool:
    """Say whether two commands that are not equal still mean the same. What cannot be read does not."""
    try:
        return _fits(expected, got, target)
    except (msgspec.MsgspecError, RecursionError, KeyError, TypeError):  # not the user's code, which stands around us
        return False


def _fits(expected: Event, got: Event, target: Any) -> bool:
    if expected.kind != got.kind or expected.name != got.name or expected.ref != got.ref:
        return False
    if expected.data == got.data:
        return True
    if expected.data is None or got.data is None:
        return False
    match got.kind:
        case Kind.ACTIVITY_SCHEDULED:
            return bool(target.arguments.same(expected.data, got.data))
        case Kind.CHILD_STARTED:
            old, new = (msgspec.json.decode(event.data or "", type=_Child) for event in (expected, got))
            return old.id == new.id and bool(target.arguments.same(bytes(old.args).decode(), bytes(new.args).decode()))
        case Kind.FAILED:  # messages and tracebacks name lines and addresses
            return bool(msgspec.json.decode(expected.data)["type"] == msgspec.json.decode(got.data)["type"])
        case _:
            return bool(msgspec.json.decode(expected.data) == msgspec.json.decode(got.data))


class _Child(msgspec.Struct):
    id: str
    args: msgspec.Raw


def differs(run: Run, expected: Event | None, got: Event) -> NonDeterminismError:
    """The code issued `got` where the history has `expected`."""
    source = _ending_line(run) if got.kind >= Kind.COMPLETED else _calling_line()
    return _error(run, got.seq, str(expected) if expected else "no command here", str(got), source)


def missing(run: Run, expected: Event) -> NonDeterminismError:
    """The code went to wait without issuing `expected`."""
    return _error(run, expected.seq, str(expected), "no command", _waiting_line(run))


def unexpected(run: Run, event: Event) -> NonDeterminismError:
    return _error(run, event.seq, "an input", str(event), "")


def undecodable(run: Run, event: Event, error: Exception) -> NonDeterminismError:
    """A recorded value does not fit the annotation that the code has now."""
    if event.kind is Kind.STARTED:
        reason = str(error.args[0]).partition("\n")[0]
        refused = _error(run, event.seq, "a value that fits the code's annotation", str(event), "")
        refused.args = (f"execution {run.execution_id}, {reason}\n{refused.args[0]}",)
        refused.hint = f"{getattr(error, 'hint', '')}; or terminate it and start again with another input"
        return refused
    return _error(run, event.seq, "a value that fits the code's annotation", f"{event}: {error}", "")


def _error(run: Run, seq: int, expected: str, got: str, source: str) -> NonDeterminismError:
    where = f"\n  at       {source}" if source else ""
    error = NonDeterminismError(
        f"execution {run.execution_id} (workflow {run.workflow.name}) does not fit its history at event #{seq}"
        f"\n  expected {expected}\n  got      {got}{where}",
        hint=_HINT,
    )
    error.seq, error.expected, error.got, error.source = seq, expected, got, source
    return error


# --- where in the user's code ---------------------------------------------------------------------------------------


def _calling_line() -> str:
    """Give the innermost line of the user's that is running."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not _is_users(frame.f_code):
        frame = frame.f_back
    return "" if frame is None else _place(frame.f_code, frame.f_lineno)


def _ending_line(run: Run) -> str:
    """Give the line that raised what ended the main task, or where its function begins."""
    error = run.main.exception() if run.main is not None and not run.main.cancelled() else None
    code = run.workflow.fn.__code__
    place = _place(code, code.co_firstlineno)
    for frame, line in traceback.walk_tb(error.__traceback__ if error is not None else None):
        if _is_users(frame.f_code):
            place = _place(frame.f_code, line)
    return place


def _waiting_line(run: Run) -> str:
    """Give the line that the main task stands at."""
    waiting = run.main.get_coro() if run.main is not None and not run.main.done() else None
    place = ""
    while inspect.iscoroutine(waiting):
        frame = waiting.cr_frame
        branch = frame.f_locals.get("branch") if frame is not None and frame.f_code is drive.__code__ else None
        if branch is not None:  # a `def` workflow
            frame = branch.gr_frame
            while frame is not None and not _is_users(frame.f_code):
                frame = frame.f_back
        if frame is not None and _is_users(frame.f_code):
            place = _place(frame.f_code, frame.f_lineno)
        waiting = waiting.cr_await
    return place


def _is_users(code: CodeType) -> bool:
    return not code.co_filename.startswith((_OURS, "<frozen")) and not code.co_filename.endswith(_LIBRARY)


def _place(code: CodeType, line: int) -> str:
    return f"{code.co_filename}:{line} in {code.co_qualname}"


_LIBRARY = tuple(
    f"asyncio/{name}.py"
    for name in ("tasks", "timeouts", "taskgroups", "locks", "queues", "events", "threads", "runners", "base_events")
)
