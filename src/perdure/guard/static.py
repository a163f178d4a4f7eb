"""Check workflow code before it runs: does its source use anything whose result a replay could not repeat?

What a name stands for is worked out from the function's real globals, closure and imports, so aliases are seen through
and a parameter called `random` is just a parameter. What cannot be known is not reported: the check finds honest
mistakes, and the audit hook (`audit.py`) and replay itself catch what it misses.

A line that ends in `# perdure: deterministic` is not reported, and what it calls is not looked into.
"""

from __future__ import annotations

import ast
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from perdure.errors import DeterminismWarning, NonDeterminismError
from perdure.guard.rulebook import breaks, rulebook
from perdure.guard.rules import SET_ORDER
from perdure.guard.source import Source
from perdure.guard.values import Known, Member
from perdure.guard.walk import Reference, SetIteration, Walker


@dataclass(frozen=True, slots=True)
class Finding:
    """One use of something that is not deterministic: what, the way out, and where."""

    target: str
    advice: str
    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.target} in {self.function}(), {self.file}:{self.line}: {self.advice}"


class _Findings:
    """Collects at most one finding per expression: of `os.environ.get`, what comes first."""

    def __init__(self) -> None:
        self.by_place: dict[tuple[str, int, int], Finding] = {}
        self._rules = rulebook()

    def on_reference(self, reference: Reference) -> bool:
        if reference.vouched:
            return False
        match = self._rules.find(reference.value)
        if match is None:
            return True
        rule, target = match
        told_before = reference.assigned and not _is_class(reference)
        if breaks(rule, reference.value, reference.call) and not told_before:
            self._add(target, rule.advice, reference.node, reference.source, reference.function)
        return False

    def on_set_iteration(self, found: SetIteration) -> None:
        if found.node.lineno not in found.source.vouched:
            self._add("for ... in a set", SET_ORDER, found.node, found.source, found.function)

    def _add(self, target: str, advice: str, node: ast.expr, source: Source, function: str) -> None:
        place = (source.file, node.lineno, node.col_offset)
        self.by_place.setdefault(place, Finding(target, advice, source.file, node.lineno, function))


def _is_class(reference: Reference) -> bool:
    return isinstance(reference.value, Known) and isinstance(reference.value.obj, type)


def inspect_function(fn: Callable[..., object]) -> list[Finding]:
    """Return what in `fn`, and in the user's own helpers that it uses, a replay could not repeat.

    `fn` may be wrapped (`__wrapped__`). Ordered by file and line; empty when the source is not at hand.
    """
    findings = _Findings()
    Walker(findings.on_reference, findings.on_set_iteration).walk(fn)
    return [finding for _, finding in sorted(findings.by_place.items())]


def reachable(fn: Callable[..., object], predicate: Callable[[object], bool]) -> list[object]:
    """Return every object that `fn` or its own helpers refer to and `predicate` accepts, each once, in order of use.

    Looks through globals, closures, attributes and one level of global lists and dicts; not into other workflows.
    """
    found: dict[int, object] = {}

    def on_reference(reference: Reference) -> bool:
        match reference.value:
            case Known(obj) | Member(obj=obj) if predicate(obj):
                found.setdefault(id(obj), obj)
        return True

    Walker(on_reference).walk(fn)
    return list(found.values())


def warn(findings: Iterable[Finding], strict: bool) -> None:
    """Warn of each finding at its own place; when `strict`, raise one NonDeterminismError that lists them all."""
    found = list(findings)
    if strict and found:
        listed = "".join(f"\n  {finding}" for finding in found)
        raise NonDeterminismError(
            f"workflow code that replay could not repeat:{listed}",
            hint="change these lines, or end one that you know to be safe in `# perdure: deterministic`",
        )
    for finding in found:
        message = f"{finding.target} in workflow code ({finding.function}()): {finding.advice}"
        warnings.warn_explicit(message, DeterminismWarning, finding.file, finding.line)
