"""The simulation finds bugs that are put into the engine on purpose."""

from __future__ import annotations

import pytest

from simulation.plants import PLANTS, Plant
from simulation.rounds import run_seeds

# a world that a violation ends is left as it is, with what it was about to do
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine .* was never awaited:RuntimeWarning"
)

FIRST = 500
"""Always the same seeds: whether a bug is found within so many is then no matter of luck."""
WITHIN = 1_200


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: plant.__name__)
def test_a_planted_bug_is_found(plant: Plant):
    with plant():
        totals = run_seeds(range(FIRST, FIRST + WITHIN))
    assert totals.violations, f"{plant.__doc__} Not found in {totals.seeds} seeds."
    print(f"found in {totals.seeds} seeds: {totals.violations[0].violation}")
