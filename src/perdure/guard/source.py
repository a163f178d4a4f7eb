"""From a function object to its syntax tree, through a cache of parsed files."""

from __future__ import annotations

import ast
import linecache
import os
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda

_OPT_OUT = "# perdure: deterministic"


@dataclass(frozen=True, slots=True)
class Source:
    """A parsed file: its functions by (first line, name), and the lines whose author vouches for them."""

    file: str
    functions: dict[tuple[int, str], FunctionNode]
    vouched: frozenset[int]


def _named_functions(tree: ast.AST) -> Iterator[tuple[tuple[int, str], FunctionNode]]:
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                first = node.decorator_list[0].lineno if node.decorator_list else node.lineno
                yield (first, node.name), node
            case ast.Lambda():
                yield (node.lineno, "<lambda>"), node


@lru_cache(maxsize=512)
def _parse(file: str, stamp: tuple[int, int]) -> Source:
    """Parse `file`; `stamp` is only the cache's key. Raises LookupError (not cached) when there is no source."""
    linecache.checkcache(file)
    lines = linecache.getlines(file)
    if not lines:
        raise LookupError(file)
    try:
        tree = ast.parse("".join(lines))
    except (SyntaxError, ValueError) as error:
        raise LookupError(file) from error
    vouched = frozenset(number for number, line in enumerate(lines, 1) if line.rstrip().endswith(_OPT_OUT))
    return Source(file, dict(_named_functions(tree)), vouched)


def locate(function: types.FunctionType) -> tuple[Source, FunctionNode] | None:
    """Return the parsed file of `function` and its node there, or None when the source is not at hand."""
    code = function.__code__
    try:
        status = os.stat(code.co_filename)
        stamp = (status.st_mtime_ns, status.st_size)
    except OSError:  # in a zip, or typed into a notebook: linecache may still know it
        stamp = (0, 0)
        linecache.lazycache(code.co_filename, function.__globals__)
    try:
        source = _parse(code.co_filename, stamp)
    except LookupError:
        return None
    node = source.functions.get((code.co_firstlineno, code.co_name))
    return (source, node) if node else None
