"""What an expression in workflow code stands for, as far as it can be known without running it."""

from __future__ import annotations

import inspect
import types
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Literal


@dataclass(frozen=True, slots=True)
class Known:
    """An object that exists: a global, a builtin, an imported module, something in a closure."""

    obj: object


@dataclass(frozen=True, slots=True)
class Instance:
    """Some instance of a class: built by the code in sight, or handed to it (an annotated parameter)."""

    cls: type
    built: bool


@dataclass(frozen=True, slots=True)
class Member:
    """An attribute found on the class `owner`: reached through the class, or through an instance of what kind."""

    owner: type
    name: str
    obj: object
    through: Literal["class", "built", "given", "shared"]


@dataclass(frozen=True, slots=True)
class Unloaded:
    """A dotted name in a module that is not imported yet."""

    path: str


Value = Known | Instance | Member | Unloaded

_MISSING = object()
_PLAIN = (types.NoneType, types.ModuleType, types.BuiltinFunctionType, type, str, int, float, list, dict, tuple)


def attribute(value: Value | None, name: str) -> Value | None:
    """Look up `value.name` without running any code of it; None when that cannot be known."""
    match value:
        case None:
            return None
        case Unloaded(path):
            return Unloaded(f"{path}.{name}")
        case Instance(cls, built):
            return _member(cls, name, "built" if built else "given")
        case Member(obj=obj) | Known(obj):
            return _known_attribute(obj, name)


def _known_attribute(obj: object, name: str) -> Value | None:
    match obj:
        case types.ModuleType():
            found = vars(obj).get(name, obj)
            return Unloaded(f"{obj.__name__}.{name}") if found is obj else Known(found)
        case type():
            return _member(obj, name, "class")
    member = _member(type(obj), name, "shared")
    found = inspect.getattr_static(obj, name, _MISSING)
    if found is _MISSING or (member and member.obj is found):
        return member
    return Known(found)


def _member(cls: type, name: str, through: Literal["class", "built", "given", "shared"]) -> Member | None:
    for owner in type.mro(cls) if cls is not type else ():
        if name in vars(owner):
            return Member(owner, name, vars(owner)[name], through)
    return None


def kind(obj: object) -> object:
    """Return what `obj` is to perdure ("activity", "workflow"), or None; runs no code of `obj`."""
    return None if isinstance(obj, _PLAIN) else inspect.getattr_static(obj, "__perdure_kind__", None)


def layers(obj: object) -> list[types.FunctionType]:
    """Return the Python functions that calling (or reading) `obj` runs: under decorators, partials and properties."""
    found: list[types.FunctionType] = []
    seen: set[int] = set()
    while not isinstance(obj, _PLAIN) and id(obj) not in seen:
        seen.add(id(obj))
        match obj:
            case staticmethod() | classmethod() | types.MethodType():
                obj = obj.__func__
            case property():
                obj = obj.fget
            case partial() | cached_property():
                obj = obj.func
            case _:
                if isinstance(obj, types.FunctionType):
                    found.append(obj)
                obj = inspect.getattr_static(obj, "__wrapped__", None)
    return found
