"""What JSON would silently change: found before it is written, so that nobody has to find it after.

JSON has no NaN and no infinities (they would come back as `None`), its object keys are strings, and without an
annotation it knows nothing but objects, arrays, strings, numbers, booleans and null. Both searches walk the object
in Python, so callers run them only when a cheaper check could not rule a loss out.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from perdure.codec.fields import field_names

ATOMS = frozenset({str, int, bool, type(None)})
"""Types that JSON keeps without an annotation, and that hold nothing else."""


def lost_float(obj: Any) -> str | None:
    """Return what is lost and where when a float in `obj` is not finite, else None."""
    return _first(obj, _float_loss)


def lost_type(obj: Any) -> str | None:
    """Return what is lost and where when `obj` holds what JSON does not keep without an annotation, else None.

    A tuple is let through although it comes back as a list: it unpacks the same.
    """
    return _first(obj, _type_loss)


def _first(obj: Any, loss: Callable[[Any], str | None]) -> str | None:
    """Search `obj` and its parts, with a stack of its own because values may be nested deeply."""
    waiting = [("$", obj)]
    while waiting:
        path, part = waiting.pop()
        if found := loss(part):
            return f"{found} - at `{path}`"
        waiting.extend((path + step, child) for step, child in _children(part) if type(child) not in ATOMS)
    return None


def _float_loss(obj: Any) -> str | None:
    if isinstance(obj, float) and not math.isfinite(obj):
        return f"the float {obj!r} has no JSON and would come back as None"
    return None


def _type_loss(obj: Any) -> str | None:
    kind = type(obj)
    if kind is dict:
        key = next((key for key in obj if type(key) is not str), None)
        return None if key is None and None not in obj else f"the key {key!r} would come back as a str"
    if kind in ATOMS or kind in (list, tuple):
        return None
    return _float_loss(obj) if kind is float else f"a `{kind.__qualname__}` would come back as plain JSON"


def _children(obj: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of `obj` that are written, each with its step of the path."""
    if isinstance(obj, dict):
        yield from ((f".{key}", item) for key, item in obj.items())
    elif isinstance(obj, list | tuple | set | frozenset):
        yield from ((f"[{position}]", item) for position, item in enumerate(obj))
    else:
        yield from ((f".{name}", getattr(obj, name, None)) for name in field_names(type(obj)))
