"""Walk a function's source, and that of the user's own helpers it uses, and tell what is referenced where.

1. Only the user's own code is entered: not the standard library, installed packages, perdure, or another activity or
   workflow. A package that holds the workflow itself is the user's own even where it is installed.
2. Every function is entered at most once. Nothing of what is walked is run.
3. Annotations are not walked: they are not part of what a workflow does.
"""

from __future__ import annotations

import ast
import dataclasses
import types
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from perdure.guard.bindings import Comprehension
from perdure.guard.names import Scope, evaluate, surroundings
from perdure.guard.origin import Origin, origin
from perdure.guard.source import FunctionNode, Source, locate
from perdure.guard.values import Instance, Known, Member, Unloaded, Value, attribute, kind, layers

_MAX_ITEMS = 256  # of a global list or dict of handlers
_ORDER_IS_NO_MATTER = (sorted, min, max, any, all, len, set, frozenset, sum)
_PASS_THROUGH = (list, tuple, enumerate, iter)


@dataclass(frozen=True, slots=True)
class Reference:
    """`node`, in `function` of `source`, stands for `value`; `call` is the call it is the function of, if any.

    `assigned`: it is a variable that the function's own source gave its value, where that value was told already.
    """

    value: Value
    node: ast.expr
    call: ast.Call | None
    source: Source
    function: str
    assigned: bool

    @property
    def vouched(self) -> bool:
        """Say whether the author wrote `# perdure: deterministic` on the line."""
        return self.node.lineno in self.source.vouched or (self.node.end_lineno or 0) in self.source.vouched


@dataclass(frozen=True, slots=True)
class SetIteration:
    """A `for` goes through a set, in an order that another process would not repeat."""

    node: ast.expr
    source: Source
    function: str


class Walker:
    """One walk: give it what it finds to `on_reference`, which says whether to enter the functions behind it."""

    def __init__(
        self,
        on_reference: Callable[[Reference], bool],
        on_set_iteration: Callable[[SetIteration], None] = lambda found: None,
    ) -> None:
        self._on_reference = on_reference
        self._on_set_iteration = on_set_iteration
        self._pending: deque[types.FunctionType] = deque()
        self._entered: set[types.FunctionType] = set()
        self._package = ""
        self._source: Source
        self._function = ""

    def walk(self, root: object) -> None:
        """Walk the function under `root` (a function, or a workflow that wraps one) and all it leads to."""
        functions = [f for f in layers(root) if origin(f.__code__.co_filename) is not Origin.PERDURE]
        if functions:
            self._package = (functions[-1].__module__ or "").partition(".")[0]
        self._pending.extend(functions)
        while self._pending:
            self._enter(self._pending.popleft())

    def _enter(self, function: types.FunctionType) -> None:
        if function in self._entered or not self._is_own(function):
            return
        self._entered.add(function)
        if (located := locate(function)) is None:
            return
        self._source, node = located
        self._function = function.__qualname__
        scope = Scope(node, surroundings(function))
        _bind_self(scope, node, function)
        self._body(node, scope)

    def _is_own(self, function: types.FunctionType) -> bool:
        owner = origin(function.__code__.co_filename)
        same_package = (function.__module__ or "").partition(".")[0] == self._package
        return owner is Origin.USER or (owner is Origin.INSTALLED and same_package)

    # --- statements and expressions -----------------------------------------------------------------------------------

    def _body(self, node: FunctionNode | ast.ClassDef, scope: Scope) -> None:
        for part in [node.body] if isinstance(node, ast.Lambda) else node.body:
            self._visit(part, scope)

    def _visit(self, node: ast.AST, scope: Scope) -> None:
        match node:
            case ast.Name(ctx=ast.Load()) | ast.Attribute(ctx=ast.Load()):
                self._reference(node, None, scope)
            case ast.Call():
                self._call(node, scope)
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                self._nested(node, scope)
            case ast.ClassDef():
                self._visit_all([*node.decorator_list, *node.bases, *node.keywords], scope)
                self._body(node, Scope(node, scope.outer, scope))
            case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
                self._comprehension(node, scope, ordered=not isinstance(node, ast.SetComp))
            case ast.AnnAssign(target=target, value=value):
                self._visit_all([target, *([value] if value else [])], scope)
            case _:
                if isinstance(node, ast.For | ast.AsyncFor):
                    self._iterate(node.iter, scope)
                self._visit_all(ast.iter_child_nodes(node), scope)

    def _visit_all(self, nodes: Iterator[ast.AST] | list[ast.AST], scope: Scope) -> None:
        for node in nodes:
            self._visit(node, scope)

    def _nested(self, node: FunctionNode, scope: Scope) -> None:
        defaults = [*node.args.defaults, *(default for default in node.args.kw_defaults if default)]
        decorators = [] if isinstance(node, ast.Lambda) else node.decorator_list
        self._visit_all([*decorators, *defaults], scope)
        if any(_makes_perdure_object(decorator, scope) for decorator in decorators):
            return
        around = scope.parent if isinstance(scope.node, ast.ClassDef) and scope.parent else scope
        self._body(node, Scope(node, scope.outer, around))

    def _call(self, node: ast.Call, scope: Scope) -> None:
        if isinstance(node.func, ast.Name | ast.Attribute):
            self._reference(node.func, node, scope)
        else:
            self._visit(node.func, scope)
        value = evaluate(node.func, scope)
        unordered = isinstance(value, Known) and any(value.obj is function for function in _ORDER_IS_NO_MATTER)
        for arg in [*node.args, *(keyword.value for keyword in node.keywords)]:
            if unordered and isinstance(arg, Comprehension):
                self._comprehension(arg, scope, ordered=False)
            else:
                self._visit(arg, scope)

    # --- sets ---------------------------------------------------------------------------------------------------------

    def _comprehension(self, node: Comprehension, scope: Scope, ordered: bool) -> None:
        inner = Scope(node, scope.outer, scope)
        results = [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        if not ordered:  # a call in it may be that of an activity, and those happen in an order
            ordered = any(isinstance(part, ast.Call | ast.Await) for each in results for part in ast.walk(each))
        for position, generator in enumerate(node.generators):
            around = inner if position else scope
            if ordered:
                self._iterate(generator.iter, around)
            self._visit(generator.iter, around)
            self._visit_all(list(generator.ifs), inner)
        self._visit_all(list(results), inner)

    def _iterate(self, node: ast.expr, scope: Scope) -> None:
        while isinstance(node, ast.Call) and node.args:
            function = evaluate(node.func, scope)
            if not (isinstance(function, Known) and any(function.obj is known for known in _PASS_THROUGH)):
                break
            node = node.args[0]
        match evaluate(node, scope):
            case Instance(cls) if cls in (set, frozenset):
                self._on_set_iteration(SetIteration(node, self._source, self._function))
            case Known(set() | frozenset() as items) if any(not isinstance(item, int | float) for item in items):
                self._on_set_iteration(SetIteration(node, self._source, self._function))

    # --- references ---------------------------------------------------------------------------------------------------

    def _reference(self, node: ast.Name | ast.Attribute, call: ast.Call | None, scope: Scope) -> None:
        value = evaluate(node, scope)
        if isinstance(node, ast.Attribute) and not isinstance(value, Unloaded):
            self._visit(node.value, scope)
        if value is None or isinstance(value, Instance):
            return
        assigned = isinstance(node, ast.Name) and scope.is_assigned(node.id)
        for each in (value, *_behind(value, call)):
            self._tell(Reference(each, node, call, self._source, self._function, assigned))

    def _tell(self, reference: Reference) -> None:
        if not self._on_reference(reference) or not isinstance(reference.value, Known | Member):
            return
        if kind(reference.value.obj) is None:
            self._pending.extend(layers(reference.value.obj))


def _bind_self(scope: Scope, node: FunctionNode, function: types.FunctionType) -> None:
    """Let `self` and `cls` stand for the class that a method was written in, if that can be found by name."""
    first = next(iter([*node.args.posonlyargs, *node.args.args]), None)
    if first is None or first.arg not in ("self", "cls") or len(scope.bindings[first.arg]) > 1:
        return
    top, *path = function.__qualname__.split(".")
    value: Value | None = Known(function.__globals__.get(top))
    for name in path[:-1]:
        value = attribute(value, name)
    if isinstance(value, Known | Member) and isinstance(value.obj, type):
        scope.known[first.arg] = Instance(value.obj, built=True) if first.arg == "self" else Known(value.obj)


def _makes_perdure_object(decorator: ast.expr, scope: Scope) -> bool:
    made_by = evaluate(decorator.func if isinstance(decorator, ast.Call) else decorator, scope)
    obj = made_by.obj if isinstance(made_by, Known | Member) else None
    return (getattr(obj, "__module__", None) or "").partition(".")[0] == "perdure"


def _behind(value: Value, call: ast.Call | None) -> Iterator[Value]:
    """Yield what a reference leads to besides itself: a container's items, and what constructing a class runs."""
    if not isinstance(value, Known | Member):
        return
    match value.obj:
        case dict() as table if len(table) <= _MAX_ITEMS:
            yield from map(Known, table.values())
        case list() | tuple() as items if len(items) <= _MAX_ITEMS:
            yield from map(Known, items)
        case type() as cls if call is not None:
            for name in ("__new__", "__init__", "__post_init__"):
                if constructor := attribute(Known(cls), name):
                    yield constructor
            given = {keyword.arg for keyword in call.keywords}
            for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
                if field.init and field.name not in given and field.default_factory is not dataclasses.MISSING:
                    yield Known(field.default_factory)
