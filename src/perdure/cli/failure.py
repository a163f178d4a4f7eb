"""A recorded failure for people: as Python prints it, with causes and hints."""

from __future__ import annotations

from collections.abc import Iterator

from perdure.codec.failure import Failure


def report(failure: Failure) -> str:
    """Write a failure like a traceback, causes first."""
    return "\n".join(_lines(failure))


def hint_of(failure: Failure) -> str:
    hint = failure.attributes.get("hint", "")
    return hint if isinstance(hint, str) else ""


def _lines(failure: Failure) -> Iterator[str]:
    if failure.cause is not None:
        yield from _lines(failure.cause)
        yield ""
        yield "which led to:"
        yield ""
    name = failure.type.partition(":")[2] or failure.type
    yield failure.traceback.rstrip() or (f"{name}: {failure.message}" if failure.message else name)
    for member in failure.exceptions or ():
        for line in _lines(member):
            yield f"  | {line}"
