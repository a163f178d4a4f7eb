"""The fields of the classes that are written as JSON objects, and a form of their values for comparing."""

from __future__ import annotations

from typing import Any

import msgspec

_encode = msgspec.json.Encoder(enc_hook=str, order="deterministic").encode


def field_names(cls: Any) -> tuple[str, ...]:
    """Name the fields of a msgspec Struct, dataclass, pydantic model or attrs class; nothing for other types."""
    for marker in ("__struct_fields__", "__dataclass_fields__", "model_fields"):
        if names := getattr(cls, marker, None):
            return tuple(names)
    return tuple(attribute.name for attribute in getattr(cls, "__attrs_attrs__", ()))


def canonical(obj: Any) -> bytes:
    """Write a value such that equal values of one type give equal bytes. For comparing, not for storing.

    The order of keys and of sets does not count, and a field that was left to its default is like one that was given:
    msgspec leaves such a field out when it writes a dataclass that it has read itself.
    """
    return _encode(_spelled_out(obj))


def _spelled_out(obj: Any) -> Any:
    if isinstance(obj, float) and obj.is_integer():  # `x: float = 1` is an int as long as it is the default
        return int(obj)
    if isinstance(obj, dict):
        return {key: _spelled_out(item) for key, item in obj.items()}
    if isinstance(obj, set | frozenset):
        return sorted(canonical(item) for item in obj)
    names = field_names(type(obj))
    if names:
        extra = getattr(obj, "__pydantic_extra__", None)
        fields = {name: _spelled_out(getattr(obj, name)) for name in names}
        return [type(obj).__qualname__, fields, _spelled_out(extra)]
    return [_spelled_out(item) for item in obj] if isinstance(obj, list | tuple) else obj
