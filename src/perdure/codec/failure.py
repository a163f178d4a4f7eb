"""A failure: an exception as the log keeps it, and the exception again.

`encode_failure` never raises, whatever the exception does. `rebuild` gives the user's own class back wherever
`exception.py` can make it safely, otherwise a `RemoteError`; it keeps notes and cause, and adds the recorded
traceback as a note.
"""

from __future__ import annotations

import asyncio
import traceback
from typing import Any

import msgspec

from perdure.codec.exception import attributes_of, find_class, get_field, make, set_field, type_name
from perdure.codec.literal import NotLiteral, from_literal, to_literal
from perdure.errors import ExecutionCancelled, InvalidValue, PerdureError, RemoteError

TRACEBACK_NOTE = "recorded traceback:"

_MAX_MESSAGE = 64 * 1024
_MAX_TRACEBACK = 16 * 1024
_MAX_NOTE = 8 * 1024
_MAX_NOTES = 32
_MAX_ATTRIBUTES = 64
_MAX_DEPTH = 16
_MAX_FAILURES = 128
_MAX_LITERAL = 64 * 1024
_MAX_RECORD = 1024 * 1024
_GROUPS = ("builtins:ExceptionGroup", "builtins:BaseExceptionGroup")


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """An exception as JSON. `exact` is false when something of it could not be kept as it was."""

    type: str
    """`module:QualName`."""
    message: str = ""
    args: list[Any] = []
    attributes: dict[str, Any] = {}
    exact: bool = True
    notes: list[str] = []
    traceback: str = ""
    cause: Failure | None = None
    exceptions: list[Failure] | None = None
    """The members of an exception group."""


def encode_failure(exc: BaseException) -> str:
    """Write an exception as JSON text. Never raises; large and odd parts are cut or replaced by their `repr`."""
    try:
        failure = _Recorder().record(exc, 0)
        raw = msgspec.json.encode(failure)
        if len(raw) > _MAX_RECORD:  # many large parts: what it is and says is worth more than what it carries
            raw = msgspec.json.encode(msgspec.structs.replace(failure, **_BARE))
        return raw.decode()
    except Exception:  # whatever a hostile class managed to break: its name is always there
        name = _clean(type.__getattribute__(type(exc), "__qualname__"), _MAX_NOTE)
        return msgspec.json.encode(Failure(f"?:{name}", "(this exception could not be recorded)", exact=False)).decode()


_BARE: dict[str, Any] = {
    "args": [], "attributes": {}, "notes": [], "cause": None, "exceptions": None, "exact": False,
}  # fmt: skip


def decode_failure(text: str) -> Failure:
    """Read a recorded failure. Raises `InvalidValue` when the text is not one."""
    try:
        return msgspec.json.decode(text, type=Failure)
    except Exception as error:
        raise InvalidValue(f"not a recorded failure: {error}", hint="the database may be damaged") from error


def rebuild(failure: Failure) -> BaseException:
    """Make the exception again: of its own class if this process has loaded it, otherwise a `RemoteError`."""
    return _rebuild(failure, 0)


def _rebuild(failure: Failure, depth: int) -> Exception:
    rebuilt = _instance(failure, depth)
    if failure.cause is not None and depth < _MAX_DEPTH:
        set_field(rebuilt, "__cause__", _rebuild(failure.cause, depth + 1))
    notes = [*failure.notes, f"{TRACEBACK_NOTE}\n{failure.traceback}"] if failure.traceback else failure.notes
    if notes:  # not `add_note`, which goes through `__setattr__`
        object.__getattribute__(rebuilt, "__dict__")["__notes__"] = list(notes)
    return rebuilt


def _instance(failure: Failure, depth: int) -> Exception:
    if failure.type == type_name(asyncio.CancelledError):
        return ExecutionCancelled(failure.message or "the execution was cancelled")
    try:
        cls = find_class("builtins:ExceptionGroup" if failure.type in _GROUPS else failure.type)
        if cls is not None:
            args = tuple(from_literal(arg) for arg in failure.args)
            if failure.exceptions is not None and depth < _MAX_DEPTH:
                args = (failure.message, [_rebuild(part, depth + 1) for part in failure.exceptions])
            made = make(cls, args, {name: from_literal(value) for name, value in failure.attributes.items()})
            str(made)  # a class whose own `__str__` misses something would fail later, in the user's `except`
            return made
    except BaseException:  # as in `_text`; mostly the class of today does not take what the class of then left
        pass
    return RemoteError(failure.message, type_name=failure.type)


class _Recorder:
    """Records one exception with its causes and members, at most `_MAX_FAILURES` of them and none twice."""

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def record(self, exc: BaseException, depth: int) -> Failure:
        """Record one exception. Everything that may run user code is guarded on its own."""
        self.seen.add(id(exc))
        args, args_exact = _literals(get_field(exc, "args"))
        attributes, attributes_exact = _attributes(exc)
        members = self._members(exc, depth)
        if members is not None:
            args, args_exact = [], True
        return Failure(
            type=_clean(type_name(type(exc)), _MAX_NOTE),
            message=_message(exc),
            args=args,
            attributes=attributes,
            exact=args_exact and attributes_exact,
            notes=_notes(exc),
            traceback=_traceback(exc),
            cause=self._cause(exc, depth),
            exceptions=members,
        )

    def _may_record(self, exc: BaseException, depth: int) -> bool:
        return id(exc) not in self.seen and depth <= _MAX_DEPTH and len(self.seen) < _MAX_FAILURES

    def _cause(self, exc: BaseException, depth: int) -> Failure | None:
        cause = get_field(exc, "__cause__")
        if cause is None and not get_field(exc, "__suppress_context__"):
            cause = get_field(exc, "__context__")
        return self.record(cause, depth + 1) if cause is not None and self._may_record(cause, depth + 1) else None

    def _members(self, exc: BaseException, depth: int) -> list[Failure] | None:
        if not isinstance(exc, BaseExceptionGroup):
            return None
        members = vars(BaseExceptionGroup)["exceptions"].__get__(exc, type(exc))
        kept = [self.record(part, depth + 1) for part in members if self._may_record(part, depth + 1)]
        if len(kept) < len(members):
            kept.append(Failure("?:LeftOut", f"{len(members) - len(kept)} more exceptions", exact=False))
        return kept


def _literals(values: tuple[Any, ...]) -> tuple[list[Any], bool]:
    """Keep plain values, replace others by text, and tell whether all are exact."""
    kept, exact = [], True
    for value in values[:_MAX_ATTRIBUTES]:
        try:
            kept.append(_small(to_literal(value)))
        except (NotLiteral, msgspec.EncodeError, RecursionError):
            kept.append(_text(value, str if type(value) is str else repr))
            exact = False
    return kept, exact and len(values) <= _MAX_ATTRIBUTES


def _small(literal: Any) -> Any:
    if len(msgspec.json.encode(literal)) > _MAX_LITERAL:
        raise NotLiteral
    return literal


def _attributes(exc: BaseException) -> tuple[dict[str, Any], bool]:
    """Keep the plain attributes, leave the others out, and tell whether all were kept."""
    try:
        found = attributes_of(exc)
    except Exception:
        return {}, False
    kept = {}
    for name, value in list(found.items())[:_MAX_ATTRIBUTES]:
        try:
            kept[str(to_literal(name))] = _small(to_literal(value))
        except (NotLiteral, msgspec.EncodeError, RecursionError):
            continue
    return kept, len(kept) == len(found)


def _message(exc: BaseException) -> str:
    if isinstance(exc, PerdureError):  # without the hint, which is an attribute
        return _text(exc, Exception.__str__)
    if isinstance(exc, BaseExceptionGroup):  # without the count, which is added again
        return _clean(vars(BaseExceptionGroup)["message"].__get__(exc, type(exc)), _MAX_MESSAGE)
    return _text(exc, str)


def _notes(exc: BaseException) -> list[str]:
    """Keep the notes, except the traceback of an earlier recording: `_traceback` prints it."""
    try:
        notes = list(object.__getattribute__(exc, "__dict__").get("__notes__", ()))[:_MAX_NOTES]
    except Exception:
        return []
    return [_clean(note, _MAX_NOTE) for note in notes if type(note) is str and not note.startswith(TRACEBACK_NOTE)]


def _traceback(exc: BaseException) -> str:
    try:
        printed = traceback.TracebackException(type(exc), exc, get_field(exc, "__traceback__"), compact=True)
        text = _clean("".join(printed.format(chain=False)), None)
    except BaseException:  # what a property of the class raised
        return ""
    if len(text) <= _MAX_TRACEBACK:
        return text
    head, tail = text[: _MAX_TRACEBACK // 4], text[-(_MAX_TRACEBACK * 3 // 4) :]
    return f"{head}\n… {len(text) - _MAX_TRACEBACK} characters left out …\n{tail}"


def _text(value: Any, write: Any) -> str:
    try:
        return _clean(write(value), _MAX_MESSAGE)
    except BaseException:  # as the traceback module does: a broken `__str__` must not hide the error that it belongs to
        return f"({type.__getattribute__(type(value), '__qualname__')} without a readable text)"


def _clean(text: str, limit: int | None) -> str:
    """Return an exact str that UTF-8 can hold, cut to `limit` characters."""
    if limit is not None and len(text) > limit:
        text = f"{text[:limit]}… ({len(text) - limit} more characters)"
    return text.encode("utf-8", "backslashreplace").decode()
