"""Which names a function, class body or comprehension binds, and where: told by syntax alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import lru_cache

from perdure.guard.source import FunctionNode

Comprehension = ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp
ScopeNode = FunctionNode | ast.ClassDef | Comprehension


@lru_cache(maxsize=4096)
def bindings(node: ScopeNode) -> Mapping[str, list[ast.AST]]:
    """Return the names that `node` binds in its own scope, each with every place that binds it.

    Of a function its parameters and what its body assigns, imports and defines; of a comprehension its loop variables.
    """
    found: dict[str, list[ast.AST]] = {}
    elsewhere: set[str] = set()
    parts: list[ast.AST]
    match node:
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            parts = [generator.target for generator in node.generators]
        case ast.ClassDef():
            parts = list(node.body)
        case ast.Lambda():
            parts = [node.args, node.body]
        case _:
            parts = [node.args, *node.body]
    for part in parts:
        _collect(part, found, elsewhere)
    for name in elsewhere:
        found.pop(name, None)
    return found


def _collect(node: ast.AST, bindings: dict[str, list[ast.AST]], elsewhere: set[str]) -> None:
    """Note what `node` binds in its scope; `elsewhere` gets the names it declares global or nonlocal."""
    if isinstance(node, ast.Global | ast.Nonlocal):
        elsewhere.update(node.names)
    for name in _bound_by(node):
        bindings.setdefault(name, []).append(node)
    for child in _same_scope(node):
        _collect(child, bindings, elsewhere)


def _bound_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.arg(arg=name):
            yield name
        case ast.arguments(vararg=vararg, kwarg=kwarg):  # apart, as these do not have the type they are annotated with
            yield from (rest.arg for rest in (vararg, kwarg) if rest)
        case ast.Import() | ast.ImportFrom():
            yield from (alias.asname or alias.name.partition(".")[0] for alias in node.names)
        case ast.Assign(targets=[ast.Name(id=name)]) | ast.NamedExpr(target=ast.Name(id=name)):
            yield name
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr()) | ast.Name(id=name, ctx=ast.Store() | ast.Del()):
            yield name
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.ExceptHandler(name=str() as name) | ast.MatchAs(name=str() as name):
            yield name
        case ast.MatchStar(name=str() as name) | ast.MatchMapping(rest=str() as name):
            yield name


def _same_scope(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the children of `node` that may bind more names in its scope; of a comprehension, where `:=` does."""
    match node:
        case ast.Lambda() | ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef() | ast.arg() | ast.Constant():
            return
        case ast.arguments():
            yield from (*node.posonlyargs, *node.args, *node.kwonlyargs)
        case ast.Assign(targets=[ast.Name()], value=value) | ast.NamedExpr(value=value):
            yield value
        case ast.AnnAssign(target=ast.Name(), value=ast.expr() as value):
            yield value
        case ast.ListComp() | ast.SetComp() | ast.GeneratorExp() | ast.DictComp():
            yield from [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
            for generator in node.generators:
                yield from (generator.iter, *generator.ifs)
        case _:
            yield from ast.iter_child_nodes(node)
