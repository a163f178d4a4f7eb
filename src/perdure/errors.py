"""What can go wrong, and what to do next.

Every error of ours is a `PerdureError` with a `.hint`: one sentence that says what to do. Errors that a workflow or an
activity of the user raised keep their own type across the log (see `codec/failure.py`); the classes below are for
what perdure itself has to say.

Control flow of ours (`ControlFlow`) derives from `BaseException`, so `except Exception:` never swallows it.
"""

from __future__ import annotations


class PerdureError(Exception):
    """Base of every error that perdure raises. `hint` says what to do next; empty when there is nothing to add."""

    hint: str = ""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(message)
        if hint:
            self.hint = hint

    def __str__(self) -> str:
        message = super().__str__()
        return f"{message}\n  hint: {self.hint}" if self.hint else message

    @property
    def message(self) -> str:
        """What failed, without the hint: for where it is a part of something longer."""
        return super().__str__()


class InternalError(PerdureError):
    """A rule that perdure keeps for itself is broken. Always a bug of ours."""

    hint = "this is a bug in perdure: please report it with the traceback"


# --- values ---------------------------------------------------------------------------------------------------------


class InvalidValue(PerdureError, TypeError):
    """A value does not fit its annotation, or its type cannot be written as JSON."""


class PayloadTooLarge(PerdureError, ValueError):
    """An input, result or signal is larger than the engine's `max_payload_bytes`."""


# --- executions -----------------------------------------------------------------------------------------------------


class ExecutionNotFound(PerdureError, LookupError):
    """No execution has this id."""


class ExecutionExists(PerdureError):
    """The id is taken by an execution with another input, or the conflict policy was `reject`."""


class ExecutionClosed(PerdureError):
    """The execution has ended, so it takes no signal, cancel, pause or completion any more."""


class ExecutionCancelled(PerdureError):
    """The awaited execution was cancelled."""


class ExecutionTerminated(PerdureError):
    """The awaited execution was terminated: it ended at once, without running its cleanup."""


class ExecutionTimedOut(PerdureError, TimeoutError):
    """The execution did not end within its `timeout_s`."""


class RemoteError(PerdureError):
    """An error of a class that this process has not imported, or that cannot be rebuilt safely.

    `type_name` is the class as the failing side named it (`module:QualName`).
    """

    def __init__(self, message: str = "", *, type_name: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.type_name = type_name


class UnknownWorkflow(PerdureError, LookupError):
    """A workflow name that this engine was not given."""


# --- activities -----------------------------------------------------------------------------------------------------


class ActivityTimeout(PerdureError, TimeoutError):
    """An attempt, or the activity as a whole, ran out of time. `limit` names the option: `timeout_s`,
    `total_timeout_s`, `start_timeout_s` or `heartbeat_timeout_s`."""

    def __init__(self, message: str = "", *, limit: str = "timeout_s", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.limit = limit


class AttemptInterrupted(PerdureError):
    """The process died, or was stopped, while the attempt ran; whether it took effect is unknown."""


class ExecFailed(PerdureError):
    """An external program of an `exec` activity ended with a status other than 0. `stderr` holds its last 8 KiB."""

    def __init__(self, message: str = "", *, returncode: int = 0, stderr: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.returncode = returncode
        self.stderr = stderr


class StaleToken(PerdureError):
    """A completion token that belongs to no open attempt: already completed, timed out, or from an attempt that was
    replaced by a newer one."""


# --- determinism ----------------------------------------------------------------------------------------------------


class NonDeterminismError(PerdureError):
    """Workflow code did something that replay could not repeat, or does not fit its recorded history.

    For a history that does not fit: `seq` of the event, what was `expected`, what was `got`, and the `source` line.
    """

    seq: int | None = None
    expected: str = ""
    got: str = ""
    source: str = ""


class DeterminismWarning(UserWarning):
    """The static check found a call in workflow code whose result replay could not repeat."""


# --- engine and store -----------------------------------------------------------------------------------------------


class EngineClosed(PerdureError):
    """The engine or client is not open (not entered yet, closed, or closing)."""


class StoreError(PerdureError):
    """The database could not be read or written."""


class NotReplicated(PerdureError):
    """What was asked is on the disk of this machine, and did not reach the replica in time. It still may."""

    hint = "nothing was undone; `perdure status` says what keeps the replica from being reached"


class StoreBusy(StoreError):
    """Another process held the write lock for longer than the busy timeout."""


class StoreFull(StoreError):
    """The disk, or the quota, has no room for the write."""


class StoreReadOnly(StoreError):
    """The file, or its folder, may not be written to."""


class StoreReplaced(StoreError):
    """The file, or one that belongs to it, was removed or replaced while it was open."""


class RowRefused(StoreError):
    """The database refuses what is to be written, whenever it is tried: one row of it, not the file, is at fault."""


class NotOurFile(StoreError):
    """The file is not a perdure database."""


class SchemaTooNew(StoreError):
    """The file was written by a newer perdure."""


class TransactionLost(StoreError):
    """A statement of a transactional activity rolled back the whole transaction, which others share."""

    hint = "do not use OR ROLLBACK or RAISE(ROLLBACK) in it; OR ABORT undoes the statement alone"


class StaleRunner(StoreError):
    """Another process became the runner of this database; this one must stop advancing executions."""


# --- control flow ---------------------------------------------------------------------------------------------------


class ControlFlow(BaseException):
    """Base of the signals that perdure sends through user code. Never catch it."""


class ContinueAsNew(ControlFlow):
    """Raised by `continue_as_new`: ends this run and starts the next one with a new input."""


class FinishLater(ControlFlow):
    """Raised by `Attempt.finish_later`: the attempt stays open until its token is completed from outside."""


class Evicted(ControlFlow):
    """Raised when workflow code that is being dropped from memory, or was refused something, still tries to do
    something durable."""
