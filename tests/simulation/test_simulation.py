"""The simulation holds for thousands of seeds, and repeats a seed exactly. `make sim` runs more."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.plants import effects_before_the_commit
from simulation.rounds import folder, run_seed, run_seeds, story

CHUNKS = 16
SEEDS = int(os.environ.get("PERDURE_SIM_SEEDS") or 2_000)
TESTS = Path(__file__).parent.parent

HASHES = """
import sys
from simulation.rounds import folder, run_seed
with folder() as within:
    for seed in map(int, sys.argv[1:]):
        print(seed, run_seed(seed, within, keep_timeline=True).hash)
"""


# a world that a violation ends is left as it is, with what it was about to do
pytestmark = pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning", "ignore:coroutine .* was never awaited:RuntimeWarning"
)

ONCE = {
    1095320522307: "a retry reopened a run that another process had just replaced",
    7003155: "a time limit passed while an execution was blocked, and counted only once it was not paused either",
    20003265: "an engine with old code that opened while the world healed stayed the runner (the simulation's mistake)",
    40001754: "engines that could not take over waited for a lock that was free already (the simulation's mistake)",
    60000280: "a signal to the run before was moved to one that is paused, and not seen by a resume in the same batch",
    60001068: "an activity was answered from outside in the batch that takes it up again, and started all the same",
    1068260641783: "an execution that began late was blamed at the next commit (the simulation's mistake)",
    569962989335: "a run had ended and was replaced before a cancel came to it (the simulation's mistake)",
}
"""Seeds that once showed a mistake. What a seed does changes with the simulation, so the engine's left direct tests
too."""


@pytest.fixture
def first(request: pytest.FixtureRequest) -> int:
    """Give a first seed: `PERDURE_SIM_SEED`, that of `make test SEED=…`, or any."""
    given = os.environ.get("PERDURE_SIM_SEED") or request.config.getoption("--hypothesis-seed", None)
    return int(given) if str(given).isdigit() else random.SystemRandom().randrange(2**40)


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_no_seed_breaks_an_invariant(first, chunk):
    begin = first + chunk * SEEDS // CHUNKS
    print(f"PERDURE_SIM_SEED={first}: seeds from {begin}")
    totals = run_seeds(range(begin, begin + SEEDS // CHUNKS))
    assert not totals.violations, story(totals.violations[0])
    assert totals.executions > SEEDS // CHUNKS
    assert sum(totals.faults.values()) > SEEDS // CHUNKS


@pytest.mark.parametrize("seed", ONCE)
def test_a_seed_that_once_showed_a_mistake_does_so_no_more(seed):
    totals = run_seeds([seed])
    assert not totals.violations, story(totals.violations[0])


def test_a_few_seeds_break_no_invariant(first):
    totals = run_seeds(range(first, first + 40))
    assert not totals.violations, story(totals.violations[0])


def hashes(seeds: list[int], hash_seed: str) -> dict[str, str]:
    """Run seeds in a process of their own, and give their traces' hashes."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    command = [sys.executable, "-c", HASHES, *map(str, seeds)]
    lines = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    return dict(line.split(" ") for line in lines)


def test_a_seed_repeats_exactly_whatever_ran_before_it_and_however_strings_hash(first):
    seeds = list(range(first, first + 12))
    print(f"seeds from {first}")
    once = hashes(seeds, "1")
    assert len(set(once.values())) == len(seeds)
    assert hashes(seeds[::-1], "2") == once


def test_a_failure_tells_its_seed_and_what_happened(first):
    with effects_before_the_commit():
        totals = run_seeds(range(first, first + 50))
        assert totals.violations
        report = totals.violations[0]
        with folder() as within:
            again = run_seed(report.seed, within)
    text = story(report)
    assert f"make sim SEED={report.seed}" in text
    assert "invariant 3" in text
    assert " attempt " in text
    assert (again.violation, again.hash) == (report.violation, report.hash)
