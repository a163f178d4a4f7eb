"""`make sim`: one seed with its timeline, or many with their totals."""

from __future__ import annotations

import argparse
import sys
import time

from simulation.rounds import Totals, folder, run_seed, run_seeds, story

FAILURES = 3


def main() -> int:
    parser = argparse.ArgumentParser(prog="make sim", description=__doc__)
    parser.add_argument("--seed", type=int, required=True, help="the seed, or the first of many")
    parser.add_argument("--rounds", type=int, help="how many seeds; without, one with its timeline")
    arguments = parser.parse_args()
    return one(arguments.seed) if arguments.rounds is None else many(arguments.seed, arguments.rounds)


def one(seed: int) -> int:
    with folder() as within:
        report = run_seed(seed, within, keep_timeline=True)
    print(story(report))
    return bool(report.violation)


def many(first: int, rounds: int) -> int:
    print(f"seeds {first} to {first + rounds - 1}", flush=True)
    began = time.monotonic()
    totals = run_seeds(range(first, first + rounds), FAILURES, _progress)
    for report in totals.violations:
        print(story(report))
    print(f"{totals} in {time.monotonic() - began:.0f} s")
    return bool(totals.violations)


def _progress(totals: Totals) -> None:
    if totals.seeds % 1_000 == 0:
        print(f"{totals.seeds:,} seeds, {totals.commits:,} commits, {len(totals.violations)} violations", flush=True)


if __name__ == "__main__":
    sys.exit(main())
