"""A recorded failure for people: as Python prints it, with causes and hints."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.codec.failure import Failure

DEEPEST = 32
"""So many causes and members inside each other are written; perdure records half as many."""


def report(failure: Failure) -> str:
    """Write a failure like a traceback, causes first."""
    return "\n".join(_lines(failure, 0))


def hint_of(failure: Failure) -> str:
    hint = failure.attributes.get("hint", "")
    return hint if isinstance(hint, str) else ""


def _lines(failure: Failure, depth: int) -> Iterator[str]:
    if depth > DEEPEST:
        yield "…"
        return
    if failure.cause is not None:
        yield from _lines(failure.cause, depth + 1)
        yield ""
        yield "which led to:"
        yield ""
    name = failure.type.partition(":")[2] or failure.type
    yield failure.traceback.rstrip() or (f"{name}: {failure.message}" if failure.message else name)
    for member in failure.exceptions or ():
        for line in _lines(member, depth + 1):
            yield f"  | {line}"
