"""Cuts the power of recorded sessions, many times, and looks at what each cut left.

    python tests/power/power_run.py --rounds 5000 --seed 42

A campaign is one database: a session of work is recorded, its power cut at hundreds of moments, work goes on from
what one of them left, and the power is cut again. The seed decides everything but what threads do at the same time.
"""

from __future__ import annotations

import argparse
import logging
import random
import sys
import tempfile
import time
from pathlib import Path

from power_campaign import FLAKY, FULL, MIXED, NORMAL, Campaign, Figures

ROUNDS = 5_000
PER_CAMPAIGN = 500
SETTINGS = (FULL, NORMAL, FULL, FLAKY, FULL, MIXED)


def campaign(seed: object, number: int, cuts: int, kept: Path) -> Figures:
    """Run one of the campaigns of a seed. Raises `AssertionError`, which says how to run it again."""
    return Campaign(f"{seed}/{number}", SETTINGS[number % len(SETTINGS)], kept).run(cuts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="power cuts")
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(2**32)))
    parser.add_argument("--only", type=int, help="the number of a campaign, to run it alone")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)  # refused commits are no news here
    print(f"seed {options.seed}")
    total, began, failures = Figures(), time.monotonic(), 0
    kept = Path(tempfile.mkdtemp(prefix="perdure-power-kept-"))
    for number in [options.only] if options.only is not None else range(-(-options.rounds // PER_CAMPAIGN)):
        try:
            total += campaign(options.seed, number, PER_CAMPAIGN, kept / str(number))
        except AssertionError as error:
            failures += 1
            print(f"campaign {number}: {error}", file=sys.stderr)
        print(f"{time.monotonic() - began:6.0f} s  {total}; {failures} violations", flush=True)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
