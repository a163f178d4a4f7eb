"""Exit codes, and which error leads to which."""

from __future__ import annotations

from enum import IntEnum

from perdure.codec.encryption import InvalidKeys
from perdure.codec.payload import DecodeError
from perdure.errors import (
    ExecutionClosed,
    ExecutionExists,
    ExecutionNotFound,
    InvalidValue,
    PayloadTooLarge,
    PerdureError,
    StaleToken,
    StoreError,
    UnknownWorkflow,
)


class ExitCode(IntEnum):
    """Documented in `docs/reference/cli.md`; scripts rely on them."""

    OK = 0
    FAILED = 1
    """The execution failed, or something wrong was found."""
    USAGE = 2
    NOT_FOUND = 3
    CONFLICT = 4
    STORE = 5
    TIMED_OUT = 124
    INTERRUPTED = 130


class UsageError(PerdureError):
    """The command line itself is wrong: an option, a JSON text, a module that cannot be loaded."""


class Conflict(PerdureError):
    """The execution is not in a state in which this can be asked of it."""


_CODES: tuple[tuple[tuple[type[PerdureError], ...], ExitCode], ...] = (
    ((UsageError, InvalidValue, PayloadTooLarge, InvalidKeys), ExitCode.USAGE),
    ((ExecutionNotFound, UnknownWorkflow), ExitCode.NOT_FOUND),
    ((Conflict, ExecutionExists, ExecutionClosed, StaleToken), ExitCode.CONFLICT),
    ((StoreError, DecodeError), ExitCode.STORE),
)


def code_for(error: PerdureError) -> ExitCode:
    for classes, code in _CODES:
        if isinstance(error, classes):
            return code
    return ExitCode.FAILED
