"""The simulation finds bugs that are put into the engine on purpose."""

from __future__ import annotations

import random
from itertools import count, islice

import pytest

from simulation.options import Options
from simulation.plants import PLANTS, SUITED, Plant
from simulation.rounds import run_seeds

# a world that a violation ends is left as it is, with what it was about to do
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine .* was never awaited:RuntimeWarning"
)

FIRST = 500
"""Always the same seeds: whether a bug is found within so many is then no matter of luck."""
WITHIN = 800


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant):
    suited = SUITED.get(plant, lambda options: True)
    seeds = (seed for seed in count(FIRST) if suited(Options.draw(random.Random(seed))))
    with plant():
        totals = run_seeds(islice(seeds, WITHIN))
    assert totals.violations, f"{plant.__doc__} Not found in {totals.seeds} seeds."
    assert "AttributeError" not in totals.violations[0].violation, "the plant does not fit the code any more"
    print(f"found in {totals.seeds} seeds: {totals.violations[0].violation}")
