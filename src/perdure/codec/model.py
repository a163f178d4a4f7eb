"""Hooks that let msgspec write and read pydantic models, without importing pydantic.

A model is told by its methods `model_dump_json` and `model_validate_json`. Models are written by field name, not by
alias, wherever the installed pydantic can also read them by name: an alias may differ between the two directions.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Hashable
from functools import cache
from typing import Any, cast

import msgspec


def is_model(cls: Any) -> bool:
    """Tell whether `cls` is a class that behaves as a pydantic model does."""
    return isinstance(cls, type) and hasattr(cls, "model_validate_json") and hasattr(cls, "model_dump_json")


def write(obj: Any) -> Any:
    """Give msgspec the JSON of a model (an `enc_hook`)."""
    cls: Any = type(obj)
    if not is_model(cls):
        raise TypeError(f"`{cls.__qualname__}` has no JSON form")
    options = {"by_alias": not _reads_by_name(cls), "round_trip": True}
    return msgspec.Raw(obj.model_dump_json(**options).encode())


def read(cls: Any, obj: Any) -> Any:
    """Make a `cls` from decoded JSON (a `dec_hook`)."""
    if cls is object:
        return obj
    if not is_model(cls):
        raise TypeError(f"`{cls}` has no JSON form")
    options = {"by_alias": False, "by_name": True} if _reads_by_name(cls) else {}
    try:
        return cls.model_validate_json(msgspec.json.encode(obj), **options)
    except ValueError as error:
        raise ValueError(_summary(cls, error)) from error


@cache
def _reads_by_name(cls: Hashable) -> bool:
    parse: Callable[..., Any] = cast(Any, cls).model_validate_json
    return "by_name" in inspect.signature(parse).parameters


def _summary(cls: type, error: ValueError) -> str:
    """Shorten pydantic's many-line message to `Order: total: Input should be a valid number`."""
    details = getattr(error, "errors", None)
    if not callable(details):
        return f"{cls.__qualname__}: {error}"
    found = [(".".join(str(step) for step in item["loc"]), item["msg"]) for item in details()]
    return f"{cls.__qualname__}: " + "; ".join(f"{path}: {message}" if path else message for path, message in found)
