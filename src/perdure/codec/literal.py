"""The plain values that an exception carries, as JSON and back, without an annotation to go by.

JSON's own types stay as they are. A few more are tagged, so that an error still reads well in the file and comes
back as it was: `{"$bytes": "YWJj"}`, `{"$tuple": [1, 2]}`. Only exact built-in types are kept, so none of the user's
code runs here, in either direction.
"""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from typing import Any

import msgspec

_TAGGED: dict[str, Any] = {
    "$bytes": bytes,
    "$datetime": datetime.datetime,
    "$date": datetime.date,
    "$time": datetime.time,
    "$timedelta": datetime.timedelta,
    "$uuid": uuid.UUID,
    "$decimal": decimal.Decimal,
}
_TAGS = {cls: tag for tag, cls in _TAGGED.items()}
_MAX_DEPTH = 16
_MAX_PARTS = 1000
_MAX_TEXT = 64 * 1024
_MAX_INT_BITS = 1024


class NotLiteral(Exception):
    """The value cannot be kept exactly."""


def to_literal(obj: Any) -> Any:
    """Return `obj` as JSON data. Raises `NotLiteral` when it would not come back exactly, or is large."""
    data = _Writer().write(obj, 0)
    if len(msgspec.json.encode(data)) > _MAX_TEXT:
        raise NotLiteral
    return data


def from_literal(data: Any) -> Any:
    """Return what `to_literal` was given. Data that it never writes comes back as it is."""
    if isinstance(data, list):
        return [from_literal(item) for item in data]
    if not isinstance(data, dict):
        return data
    if len(data) == 1:
        (tag, content) = next(iter(data.items()))
        if tag == "$tuple" and isinstance(content, list):
            return tuple(from_literal(item) for item in content)
        if tag in _TAGGED:
            try:
                return msgspec.convert(content, _TAGGED[tag])
            except msgspec.ValidationError:
                return data
    return {key: from_literal(item) for key, item in data.items()}


class _Writer:
    """Counts the parts it has written, to stop early in a large value."""

    __slots__ = ("parts",)

    def __init__(self) -> None:
        self.parts = 0

    def write(self, obj: Any, depth: int) -> Any:
        self.parts += 1
        if depth > _MAX_DEPTH or self.parts > _MAX_PARTS:
            raise NotLiteral
        kind = type(obj)
        if kind is list:
            return [self.write(item, depth + 1) for item in obj]
        if kind is tuple:
            return {"$tuple": [self.write(item, depth + 1) for item in obj]}
        if kind is dict:
            if not all(type(key) is str and not key.startswith("$") for key in obj):
                raise NotLiteral
            return {_atom(key): self.write(item, depth + 1) for key, item in obj.items()}
        return {_TAGS[kind]: _tagged(obj)} if kind in _TAGS else _atom(obj)


def _atom(obj: Any) -> Any:
    """Return a value that JSON itself keeps."""
    kind = type(obj)
    kept = obj is None or kind is bool
    if kind is str:
        kept = len(obj) <= _MAX_TEXT and (obj.isascii() or _is_unicode(obj))
    elif kind is int:
        kept = obj.bit_length() <= _MAX_INT_BITS
    elif kind is float:
        kept = math.isfinite(obj)
    if not kept:
        raise NotLiteral
    return obj


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _tagged(obj: Any) -> Any:
    if isinstance(obj, bytes) and len(obj) > _MAX_TEXT:
        raise NotLiteral
    try:
        data = msgspec.to_builtins(obj)
        exact = msgspec.convert(data, type(obj)) == obj
    except Exception as error:  # a tzinfo class of the user's, which may do anything
        raise NotLiteral from error
    if not exact:
        raise NotLiteral
    return data
