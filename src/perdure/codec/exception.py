"""Exception classes: what an instance carries, and how to make one again without running the class's code.

A recorded failure names its class, and the file it came from may be a stranger's. So:

1. Nothing is imported: a class is found only in a module that is already loaded, by walking through classes.
2. Only subclasses of `Exception` are made, and neither `__init__`, `__new__` nor `__setattr__` of a class outside
   `builtins` is ever called.
   A class with `__del__` is left alone: that would run by itself, on what the file gave the instance.
3. Members that live in C structs are only set where any value is safe.
"""

from __future__ import annotations

import builtins
import sys
from collections.abc import Iterable, Iterator, Mapping
from types import MemberDescriptorType, ModuleType
from typing import Any

_C_MEMBERS: Mapping[type, tuple[str, ...]] = {
    OSError: ("filename", "filename2"),
    ImportError: ("name", "path"),
    NameError: ("name",),
    AttributeError: ("name",),
}
_BUILTINS = frozenset(cls for cls in vars(builtins).values() if isinstance(cls, type))


class NotRebuildable(Exception):
    """An instance cannot be made without running code of its class."""


def type_name(cls: type) -> str:
    """Name a class as `module:QualName`."""
    return f"{cls.__module__}:{cls.__qualname__}"


def find_class(name: str) -> type[Exception] | None:
    """Return the exception class that `type_name` named, or None when it is not loaded or is none.

    Looks only at what is there: no import, no `__getattr__`, no descriptor and no lazy module is triggered.
    """
    module_name, _, path = name.partition(":")
    module = sys.modules.get(module_name)
    if not issubclass(type(module), ModuleType) or not path:
        return None
    found: Any = object.__getattribute__(module, "__dict__")
    for step in path.split("."):
        found = (found if type(found) is dict else type.__getattribute__(found, "__dict__")).get(step)
        if not issubclass(type(found), type):
            return None
    return found if issubclass(found, Exception) else None


def attributes_of(exc: BaseException) -> dict[str, Any]:
    """Return what an instance carries besides its `args`: its `__dict__`, slots and safe C members."""
    found = {}
    for name, member in _members(type(exc)):
        try:
            value = member.__get__(exc, type(exc))
        except AttributeError:  # an empty slot
            continue
        if value is not None:
            found[name] = value
    own = object.__getattribute__(exc, "__dict__")
    return found | {key: value for key, value in own.items() if type(key) is str and not key.startswith("__")}


def make(cls: type[Exception], args: tuple[Any, ...], attributes: Mapping[str, Any]) -> Exception:
    """Make an instance with these `args` and attributes.

    Raises `NotRebuildable` for a class with its own `__new__`, and whatever the built-in constructor raises when the
    arguments do not suit it.
    """
    base = _owner(cls, "__new__")
    if any("__del__" in vars(part) for part in cls.__mro__):
        raise NotRebuildable
    if base not in _BUILTINS or (issubclass(cls, UnicodeError) and not _in_bounds(args)):
        raise NotRebuildable
    made = base.__new__(cls, *args)
    if cls not in type(made).__mro__:
        raise NotRebuildable
    # for example OSError leaves the work to `__init__` when a subclass has one of its own
    initialise = next(vars(part)["__init__"] for part in cls.__mro__ if part in _BUILTINS and "__init__" in vars(part))
    initialise(made, *args)
    set_field(made, "args", args)
    members = dict(_members(cls))
    own = object.__getattribute__(made, "__dict__")
    for name, value in attributes.items():
        if name in members:
            members[name].__set__(made, value)
        elif not name.startswith("__"):
            own[name] = value
    return made


def get_field(exc: BaseException, name: str) -> Any:
    """Read a field of `BaseException` itself, even if the class hides it behind a property."""
    return vars(BaseException)[name].__get__(exc, type(exc))


def set_field(exc: BaseException, name: str, value: Any) -> None:
    """Set a field of `BaseException` itself, past any `__setattr__` of the class."""
    vars(BaseException)[name].__set__(exc, value)


def _members(cls: type) -> Iterator[tuple[str, MemberDescriptorType]]:
    """Yield the settable members of a class: `__slots__` of Python classes and the safe ones of built-ins."""
    for part in cls.__mro__:
        names: Iterable[str] = _C_MEMBERS.get(part, ())
        if part not in _BUILTINS and "__slots__" in vars(part):
            names = vars(part)
        for name in names:
            member = vars(part)[name]
            if isinstance(member, MemberDescriptorType) and not name.startswith("__"):
                yield name, member


def _owner(cls: type, name: str) -> type[Any]:
    return next(part for part in cls.__mro__ if name in vars(part))


def _in_bounds(args: tuple[Any, ...]) -> bool:
    """Check the positions of a UnicodeError: CPython reads its object there without looking."""
    if len(args) not in (4, 5):  # UnicodeError itself takes anything
        return True
    text, start, end = args[-4], args[-3], args[-2]
    return isinstance(text, str | bytes) and type(start) is type(end) is int and 0 <= start <= end <= len(text)
