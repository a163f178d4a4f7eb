"""Which annotations can be written as JSON, and what they say about a value.

`examine` is called once per annotation, when an engine starts or at first use. It refuses a type that would fail
later, in the middle of an execution, and says what to use instead.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any, NamedTuple, Never, NoReturn

import msgspec
from msgspec import inspect as types

from perdure.codec.model import is_model
from perdure.errors import InvalidValue

_INSTEAD = "use a dataclass, a msgspec.Struct, a TypedDict or a pydantic model"
_UNION = "give the alternatives a common msgspec.Struct base with `tag=True`, or wrap them in one pydantic model"
_KEYS = (
    types.AnyType,
    types.StrType,
    types.IntType,
    types.FloatType,
    types.EnumType,
    types.LiteralType,
    types.DateTimeType,
    types.DateType,
    types.TimeType,
    types.TimeDeltaType,
    types.UUIDType,
    types.DecimalType,
    types.BytesType,
)


class Traits(NamedTuple):
    """What an annotation says about its values. `untyped`: nothing but JSON. `floats`: a float may be inside."""

    untyped: bool
    floats: bool


def normalise(annotation: Any) -> Any:
    """Map the spellings of 'anything' and 'nothing' to those that msgspec knows."""
    if annotation is inspect.Parameter.empty or annotation is object:
        return Any
    return None if annotation in (None, Never, NoReturn) else annotation


def describe(annotation: Any) -> str:
    """Write an annotation the way a person would in code."""
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def examine(annotation: Any, where: str) -> Traits:
    """Check that values of `annotation` can be written as JSON and read back.

    Raises `InvalidValue`, which names `where`, the type at fault and what to use instead.
    """
    try:
        info = types.type_info(annotation)
    except NameError as error:
        hint = "define the type at module level, and import it outside `if TYPE_CHECKING:`"
        raise InvalidValue(f"{where}: `{describe(annotation)}`: {error}", hint=hint) from error
    except Exception as error:
        hint = _UNION if "unions" in str(error) else _INSTEAD
        raise InvalidValue(f"{where}: `{describe(annotation)}` has no JSON form: {error}", hint=hint) from error
    floats = False
    for trail, part in _parts(info, "", set()):
        if problem := _problem(part):
            place = f" (in {trail})" if trail else ""
            raise InvalidValue(f"{where}: {problem}{place}", hint=_INSTEAD)
        floats = floats or isinstance(part, types.FloatType | types.AnyType | types.CustomType)
    try:
        msgspec.json.Decoder(annotation)
    except TypeError as error:
        raise InvalidValue(f"{where}: `{describe(annotation)}` has no JSON form: {error}", hint=_UNION) from error
    return Traits(untyped=_untyped(info), floats=floats)


def _problem(info: types.Type) -> str | None:
    """Say why a part of an annotation cannot be written, or None."""
    if isinstance(info, types.CustomType) and info.cls is not object and not is_model(info.cls):
        return f"`{describe(info.cls)}` has no JSON form"
    if isinstance(info, types.DictType):
        keys = info.key_type.types if isinstance(info.key_type, types.UnionType) else (info.key_type,)
        if not all(isinstance(key, _KEYS) for key in keys):
            return "a dict key must be a str, a number or a type written as a str"
    return None


def _untyped(info: types.Type) -> bool:
    """Tell whether the annotation says no more than JSON itself does, as `Any`, `dict` or `dict[str, Any]`."""
    if isinstance(info, types.ListType):
        return _untyped(info.item_type)
    if isinstance(info, types.DictType):
        return isinstance(info.key_type, types.AnyType | types.StrType) and _untyped(info.value_type)
    return isinstance(info, types.AnyType) or (isinstance(info, types.CustomType) and info.cls is object)


def _parts(info: types.Type, trail: str, seen: set[int]) -> Iterator[tuple[str, types.Type]]:
    """Yield a type and the types inside it, each with the field that leads to it; a recursive type ends the walk."""
    if id(info) in seen:
        return
    seen.add(id(info))
    yield trail, info
    owner = describe(getattr(info, "cls", None))
    for field in getattr(info, "fields", ()):
        yield from _parts(field.type, f"`{owner}.{field.name}`", seen)
    for name in ("item_type", "key_type", "value_type", "type"):
        if (child := getattr(info, name, None)) is not None:
            yield from _parts(child, trail, seen)
    for name in ("item_types", "types"):
        for child in getattr(info, name, ()):
            yield from _parts(child, trail, seen)
