"""Which schedules to try: first every single mishap that there is room for, then pairs where one opened up something
new, then random ones."""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator

from perdure.activity import ActivityOptions
from perdure.testing.disturbance import Shape, limits
from perdure.testing.schedule import ALL, Mishap, Schedule, What

SHUFFLES = 6
"""How many orders are tried by themselves."""
MOST = 4
"""The most mishaps in a random schedule."""
FEW = 40
"""How many schedules are built on one that opened up something new."""


class Plans:
    """See the module. `kinds` are those that may be used."""

    def __init__(self, kinds: Collection[What], draw: random.Random) -> None:
        self.kinds = frozenset(kinds)
        self.draw = draw

    def singles(self, shape: Shape) -> list[Schedule]:
        """Give a schedule for every single mishap, the cheapest kind first."""
        return [Schedule((mishap,)) for mishap in self._all(shape)]

    def sampled(self, schedules: list[Schedule], limit: int) -> list[Schedule]:
        """Leave out some of what is too much, spread over all of it."""
        if len(schedules) <= limit:
            return schedules
        chosen = sorted(self.draw.sample(range(len(schedules)), limit))
        return [schedules[index] for index in chosen]

    def beyond(self, schedule: Schedule, new: Shape, known: Shape) -> list[Schedule]:
        """Give schedules on top of one under which calls were made that there were not before (an undo step, for
        example): each mishap in these calls, and crashes around them."""
        unseen = Shape(0, {place: options for place, options in new.calls.items() if place not in known.calls})
        if not unseen.calls:
            return []
        first = max((mishap.at for mishap in schedule.mishaps), default=0)
        crashes = [
            Mishap(what, at)
            for at in range(first + 1, new.commits + 1)
            for what in (What.CRASH_BEFORE, What.CRASH_AFTER)
            if what in self.kinds
        ]
        added = [*self._in_calls(unseen), *crashes]
        return self.sampled([Schedule.of((*schedule.mishaps, mishap)) for mishap in added], FEW)

    def random(self, shape: Shape) -> Schedule:
        """Draw a schedule of a few mishaps."""
        mishaps = [*self._all(shape)]
        if not mishaps:
            return Schedule()
        kinds = sorted({mishap.what for mishap in mishaps})
        chosen: set[Mishap] = set()
        wanted = min(self.draw.randint(2, MOST), len(mishaps))
        while len(chosen) < wanted:
            what = self.draw.choice(kinds)  # by kind first: there are many more places for some
            chosen.add(self.draw.choice([mishap for mishap in mishaps if mishap.what is what]))
        return Schedule.of(chosen)

    # --- all there is room for --------------------------------------------------------------------------------------

    def _all(self, shape: Shape) -> Iterator[Mishap]:
        if What.EVICT in self.kinds:
            yield Mishap(What.EVICT)
        for at in range(1, shape.commits + 1):
            for what in (What.CRASH_BEFORE, What.CRASH_AFTER):
                if what in self.kinds:
                    yield Mishap(what, at)
            if What.CANCEL in self.kinds and at < shape.commits:
                yield Mishap(What.CANCEL, at)
        yield from self._in_calls(shape)
        if What.SHUFFLE in self.kinds and len(shape.calls) > 1:
            yield from (Mishap(What.SHUFFLE, seed) for seed in range(1, SHUFFLES + 1))

    def _in_calls(self, shape: Shape) -> Iterator[Mishap]:
        for (activity, call), options in shape.calls.items():
            for what, times in _befalls(options, len(shape.calls) > 1):
                if what in self.kinds:
                    yield Mishap(what, 0, activity, call, times)


def _befalls(options: ActivityOptions, others: bool) -> Iterator[tuple[What, int]]:
    """Give what can go wrong with a call, and in how many attempts."""
    failing = [What.FAIL, What.FAIL_AFTER]
    if limits(options):
        failing += [What.TIMEOUT, What.TIMEOUT_AFTER]
    retry = options.retry
    within = None if retry.attempts is None else retry.attempts - 1
    for what in failing:
        if within != 0:
            yield what, 1
        if within is not None and within > 1:
            yield what, within  # the last attempt saves it
        if within is not None or retry.total_s is not None:
            yield what, ALL
    yield What.TWICE, 1
    yield What.CANCEL_IN, 1
    if others:
        yield What.DELAY, 1
