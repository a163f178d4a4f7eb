"""Find the rule for a value: by identity where the object exists, by name where its module is not imported yet."""

from __future__ import annotations

import ast
import builtins
import random
import sys
import types
from collections.abc import Iterable, Iterator
from functools import lru_cache

from perdure.guard.rules import FINE, RANDOM, RULES, SHARED_RANDOM, Rule
from perdure.guard.values import Instance, Known, Member, Unloaded, Value, attribute

_EXACT = {rule.target: rule for rule in RULES if not rule.target.endswith(".*")}
_WHOLE = {rule.target.removesuffix(".*"): rule for rule in RULES if rule.target.endswith(".*")}


def _prefixes(path: str) -> Iterator[str]:
    while path:
        yield path
        path = path.rpartition(".")[0]


_MODULES = sorted({prefix for rule in RULES for prefix in _prefixes(rule.target.removesuffix(".*"))})


def _whole(path: str) -> Rule | None:
    """Return the `module.*` rule that `path` falls under."""
    return next((_WHOLE[prefix] for prefix in _prefixes(path.rpartition(".")[0]) if prefix in _WHOLE), None)


class RuleBook:
    """The rules, resolved against the modules that are imported now."""

    def __init__(self) -> None:
        self._objects: dict[int, tuple[Rule, str]] = {}
        self._members: dict[tuple[type, str], tuple[Rule, str]] = {}
        self._fine: set[int] = set()
        self._keep: list[object] = []  # ids in the tables stay those of these objects
        for target in FINE:
            if isinstance(value := _resolve(target), Known):
                self._fine.add(id(value.obj))
                self._keep.append(value.obj)
        for target, rule in _EXACT.items():
            self._add(_resolve(target), rule, target)
        for module_name, rule in _WHOLE.items():
            for name in _public(module_name):
                self._add(attribute(Known(sys.modules[module_name]), name), rule, f"{module_name}.{name}")

    def _add(self, value: Value | None, rule: Rule, path: str) -> None:
        match value:
            case Known(obj) if id(obj) not in self._fine and (path in _EXACT or _does_something(obj)):
                self._objects.setdefault(id(obj), (rule, path))
                self._keep.append(obj)
            case Member(owner, name):
                self._members.setdefault((owner, name), (rule, path))

    def find(self, value: Value | None) -> tuple[Rule, str] | None:
        """Return the rule that `value` breaks and the dotted name to report; None when there is none."""
        match value:
            case Known(obj):
                wrapped = getattr(obj, "__wrapped__", obj)  # `time.sleep` once audit.py has given it its event
                return self._objects.get(id(obj)) or self._objects.get(id(wrapped)) or self._by_home(obj)
            case Member(owner, name, obj, through):
                return self._by_member(owner, name, obj, through)
            case Unloaded(path):
                return self._by_path(path)
            case _:
                return None

    def _by_home(self, obj: object) -> tuple[Rule, str] | None:
        """Match a bound class method (`now = datetime.now`) and what a refused module defines in a submodule."""
        if isinstance(obj, types.BuiltinMethodType | types.MethodType) and isinstance(obj.__self__, type):
            bound = attribute(Known(obj.__self__), obj.__name__)
            return self.find(bound) if isinstance(bound, Member) else None
        if not isinstance(obj, types.FunctionType | types.BuiltinFunctionType | type) or not _does_something(obj):
            return None
        path = f"{obj.__module__}.{obj.__qualname__}"
        rule = _whole(path) if id(obj) not in self._fine else None
        return (rule, path) if rule else None

    def _by_member(self, owner: type, name: str, obj: object, through: str) -> tuple[Rule, str] | None:
        if (owner, name) in self._members:
            return self._members[owner, name]
        if rebound := self._objects.get(id(obj.__func__ if isinstance(obj, staticmethod) else obj)):
            return rebound
        path = f"{owner.__module__}.{owner.__qualname__}.{name}"
        if not callable(obj) and not isinstance(obj, classmethod | staticmethod):
            return None
        if issubclass(random.Random, owner):
            return (Rule(path, SHARED_RANDOM), path) if through == "shared" and owner is not object else None
        rule = _whole(path) if through in {"given", "shared"} and id(owner) not in self._fine else None
        if rule is None or (rule.advice == RANDOM and through == "given"):  # a generator that was handed in is seeded
            return None
        return rule, path

    def _by_path(self, path: str) -> tuple[Rule, str] | None:
        last = path.rpartition(".")[2]
        if path in FINE or ".exceptions." in path or last.endswith(("Error", "Exception")):
            return None
        rule = _EXACT.get(path) or (None if last.isupper() else _whole(path))
        return (rule, path) if rule else None


def _does_something(obj: object) -> bool:
    return callable(obj) and not (isinstance(obj, type) and issubclass(obj, BaseException))


def _public(module_name: str) -> Iterable[str]:
    """Return what an imported module offers: its `__all__`, or else the public names that it defines itself."""
    module = sys.modules.get(module_name)
    if module is None or hasattr(module, "__all__"):
        return getattr(module, "__all__", ())
    return [name for name, obj in vars(module).items() if name[0] != "_" and _top(obj) == _top(module)]


def _top(obj: object) -> str:
    home = obj.__name__ if isinstance(obj, types.ModuleType) else getattr(obj, "__module__", None) or ""
    return str(home).partition(".")[0].lstrip("_")


def _resolve(target: str) -> Value | None:
    head, *rest = target.split(".")
    value: Value | None = Known(vars(builtins)[head]) if not rest else None
    for index in range(len(rest), 0, -1):
        if module := sys.modules.get(".".join([head, *rest[: index - 1]])):
            value = Known(module)
            for name in rest[index - 1 :]:
                value = attribute(value, name)
            break
    return value


@lru_cache(maxsize=2)
def _book(modules: tuple[types.ModuleType | None, ...]) -> RuleBook:
    return RuleBook()


def rulebook() -> RuleBook:
    """Return the rules for the modules imported by now."""
    return _book(tuple(sys.modules.get(name) for name in _MODULES))


def breaks(rule: Rule, value: Value, call: ast.Call | None) -> bool:
    """Say whether this use of what `rule` names is refused: a class only when called, some calls only without args."""
    if rule.pure_args:
        return call is not None and not _pure(call, rule.pure_args)
    match value:
        case Known(type()):
            return call is not None
        case Unloaded(path) if path.rpartition(".")[2][:1].isupper():
            return call is not None
        case Instance():
            return False
        case Known(obj) if obj is hash or obj is id:
            return call is not None
        case _:
            return True


def _pure(call: ast.Call, count: int) -> bool:
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    if any(isinstance(arg, ast.Starred) for arg in given) or any(keyword.arg is None for keyword in call.keywords):
        return True
    return len([arg for arg in given if not (isinstance(arg, ast.Constant) and arg.value is None)]) >= count
