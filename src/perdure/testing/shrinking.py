"""Cutting a failing schedule down to the smallest one that fails in the same way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from perdure.testing.schedule import ALL, AT_COMMIT, Mishap, Schedule
from perdure.testing.subject import Ran

TRIES = 200
"""How many runs a failure is worth."""


def shrink(found: Ran, run: Callable[[Schedule], Ran]) -> Ran:
    """Give the smallest failing run that was found from `found`: fewer mishaps, then earlier and milder ones.

    Only a failure of the same kind counts as the same.
    """
    assert found.problem is not None
    best, tries = found, TRIES
    tried = {found.schedule}
    progress = True
    while progress and tries > 0:
        progress = False
        for smaller in _smaller(best.schedule):
            if smaller in tried:
                continue
            if tries == 0:
                break
            tried.add(smaller)
            tries -= 1
            ran = run(smaller)
            if ran.problem is not None and ran.problem.kind == found.problem.kind:
                best, progress = ran, True
                break
    return best


def _smaller(schedule: Schedule) -> Iterator[Schedule]:
    """Give schedules that are simpler by one step, the boldest first."""
    if len(schedule) > 1:
        yield from (schedule.without(mishap) for mishap in reversed(schedule.mishaps))
        yield from (Schedule((mishap,)) for mishap in schedule.mishaps)
    for mishap in schedule.mishaps:
        for milder in _milder(mishap):
            yield schedule.replaced(mishap, milder)


def _milder(mishap: Mishap) -> Iterator[Mishap]:
    """Give the same mishap earlier, or fewer times."""
    if mishap.what in AT_COMMIT:
        yield from (replace(mishap, at=at) for at in range(1, mishap.at))
    elif mishap.times >= ALL or mishap.times > 1:
        yield replace(mishap, times=1)
    if mishap.call > 1:
        yield from (replace(mishap, call=call) for call in range(1, mishap.call))
