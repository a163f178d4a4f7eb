"""What the names in a function's source stand for: its locals first, then its closure, globals and builtins.

A local name is known only when it is bound exactly once, and to something that can be told without running it: an
import, another known thing, an instance of a known class. Every other local is unknown, which is never reported.
"""

from __future__ import annotations

import ast
import builtins
import importlib.util
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, field

from perdure.guard.bindings import ScopeNode, bindings
from perdure.guard.values import Instance, Known, Member, Unloaded, Value, attribute

_SETS = (set, frozenset)
_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})


@dataclass(slots=True)
class Scope:
    """The names of one function body, comprehension or class body; `parent` is the enclosing one in the same source.

    `outer` holds what the outermost function sees around it: its closure over its globals over the builtins.
    """

    node: ScopeNode
    outer: Mapping[str, object]
    parent: Scope | None = None
    known: dict[str, Value | None] = field(default_factory=dict)
    bindings: Mapping[str, list[ast.AST]] = field(init=False)

    def __post_init__(self) -> None:
        self.bindings = bindings(self.node)

    def find(self, name: str) -> Value | None:
        """Return what `name` stands for here, or None."""
        if name in self.known:
            return self.known[name]
        if name in self.bindings:
            self.known[name] = None  # while it is being worked out, `x = x.y` knows nothing of x
            self.known[name] = self._bound(self.bindings[name], name)
            return self.known[name]
        if self.parent is not None:
            return self.parent.find(name)
        return Known(self.outer[name]) if name in self.outer else None

    def is_assigned(self, name: str) -> bool:
        """Say whether the function's own source gives `name` its value other than by an import."""
        if name in self.bindings:
            return not all(isinstance(node, ast.Import | ast.ImportFrom) for node in self.bindings[name])
        return self.parent is not None and self.parent.is_assigned(name)

    def _bound(self, nodes: list[ast.AST], name: str) -> Value | None:
        first, *others = nodes
        if isinstance(first, ast.Import | ast.ImportFrom):
            same = all(isinstance(other, ast.Import | ast.ImportFrom) for other in others)
            return _imported(first, name, str(self.outer.get("__package__") or "")) if same else None
        return None if others else self._bound_once(first)

    def _bound_once(self, node: ast.AST) -> Value | None:
        match node:
            case ast.Assign(value=value) | ast.NamedExpr(value=value) | ast.AnnAssign(value=ast.expr() as value):
                return evaluate(value, self)
            case ast.arg(annotation=ast.expr() as annotation):
                return _annotated(annotation, self)
            case _:
                return None


def evaluate(node: ast.expr, scope: Scope) -> Value | None:
    """Work out what an expression stands for without running it; None when that cannot be known."""
    match node:
        case ast.Name(id=name):
            return scope.find(name)
        case ast.Attribute(value=base, attr=name):
            return attribute(evaluate(base, scope), name)
        case ast.Call(func=function):
            return _returned(function, scope)
        case ast.Set(elts=elements):
            numbers = all(isinstance(e, ast.Constant) and isinstance(e.value, int | float) for e in elements)
            return None if numbers else Instance(set, built=True)
        case ast.SetComp():
            return Instance(set, built=True)
        case ast.BinOp(left=left, op=ast.Div() | ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor()):
            value = evaluate(left, scope)  # Path / str is a Path, set | set is a set
            return value if isinstance(value, Instance) and _keeps_class(value.cls, node.op) else None
        case _:
            return None


def _keeps_class(cls: type, operator: ast.operator) -> bool:
    return cls in _SETS or (isinstance(operator, ast.Div) and cls.__module__.startswith("pathlib"))


def _returned(function: ast.expr, scope: Scope) -> Value | None:
    match evaluate(function, scope):
        case Known(type() as cls) | Member(obj=type() as cls) if cls is not type:
            return Instance(cls, built=True)
        case Member(owner=owner, name=name) if owner in _SETS and name in _SET_METHODS:
            return Instance(owner, built=True)
        case _:
            return None


def _annotated(annotation: ast.expr, scope: Scope) -> Value | None:
    match annotation:
        case ast.Constant(value=str() as text):
            try:
                return _annotated(ast.parse(text, mode="eval").body, scope)
            except SyntaxError:
                return None
        case ast.Subscript(value=ast.expr() as base):
            return _annotated(base, scope)
    match evaluate(annotation, scope):
        case Known(type() as cls) if cls is not type and cls not in _SETS:
            return Instance(cls, built=False)
        case _:
            return None


def _imported(node: ast.Import | ast.ImportFrom, name: str, package: str) -> Value | None:
    alias = next(a for a in node.names if (a.asname or a.name.partition(".")[0]) == name)
    if isinstance(node, ast.Import):
        return _module(alias.name if alias.asname else name)
    home = "." * node.level + (node.module or "")
    try:
        home = importlib.util.resolve_name(home, package) if node.level else home
    except ImportError:
        return None
    found = attribute(_module(home), alias.name)
    return _module(found.path) if isinstance(found, Unloaded) else found


def _module(path: str) -> Value:
    module = sys.modules.get(path)
    return Known(module) if module is not None else Unloaded(path)


def surroundings(function: types.FunctionType) -> Mapping[str, object]:
    """Return the names that `function` sees around it: closure, globals, builtins."""
    closed: dict[str, object] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=False):
        try:
            closed[name] = cell.cell_contents
        except ValueError:  # not filled yet
            continue
    return {**vars(builtins), **function.__globals__, **closed}
