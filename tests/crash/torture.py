"""Kills workers in the middle of their work, over and over, and looks for anything that should not be.

    python tests/crash/torture.py --rounds 1000 --seed 42

A campaign is one database: rounds of harm, a look at everything after each, and in the end a phase without harm in
which every execution must end as the oracle says. The seed decides what is asked and what is done when; how processes
interleave is up to the machine, so a seed repeats the harm, not every coincidence.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Collection
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path

from crash_check import Check
from crash_ending import bring_to_an_end
from crash_harm import Harm
from crash_site import Failed, Site

ROUNDS = 30
PER_DATABASE = 25
STILL = 0.6
"""Of so many looks the processes stand still; during the others they go on."""
PROGRESS_EVERY_S = 10.0
SHOWN = 20


@dataclass
class Figures:
    """What a run of the torture saw."""

    rounds: int = 0
    kills: int = 0
    stops: int = 0
    takeovers: int = 0
    databases: int = 0
    executions: int = 0
    steps: int = 0
    effects: int = 0
    repeated: int = 0
    answers: int = 0
    replays: int = 0
    violations: int = 0

    def __add__(self, other: Figures) -> Figures:
        return Figures(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def __str__(self) -> str:
        return (
            f"{self.rounds:,} rounds on {self.databases:,} databases, {self.kills:,} kills, {self.stops:,} stops, "
            f"{self.takeovers:,} takeovers, {self.executions:,} executions, {self.steps:,} steps, {self.effects:,} "
            f"effects ({self.repeated:,} in a later attempt), {self.answers:,} answers, {self.replays:,} replays, "
            f"{self.violations:,} violations"
        )


class Campaign:
    """One database. `only` names the kinds of harm to do, `tell` hears of progress."""

    def __init__(
        self,
        folder: Path,
        seed: str,
        *,
        bug: str = "",
        only: Collection[str] = (),
        tell: Callable[[Figures], None] = lambda figures: None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        choose = random.Random(seed)
        key = choose.randbytes(32) if choose.random() < 0.25 else None
        self.site = Site(folder, seed, key=key, bug=bug)
        self.check = Check(self.site)
        self.harm = Harm(self.site, only)
        self.rounds = 0
        self.found: list[str] = []
        self._tell = tell

    @property
    def figures(self) -> Figures:
        check = self.check
        return Figures(
            self.rounds, self.site.kills, self.site.stops, self.harm.takeovers, 1, check.executions, check.steps,
            check.effects.total, check.effects.repeated, check.words.told, check.replayed, len(self.found),
        )  # fmt: skip

    def play(self, rounds: int) -> list[str]:
        """Play rounds until something is wrong, then the end; give what was found."""
        try:
            self.harm.begin()
            while self.rounds < rounds and not self.found:
                self.harm.do()
                with self.site.standing_still() if self.harm.choose.random() < STILL else nullcontext():
                    self.found += self.check.look()
                self.rounds += 1
                self._tell(self.figures)
            if not self.found:
                bring_to_an_end(self.site)
                self.found += self.check.look()
                self.found += self.check.finish()
        except Failed as error:
            self.found.append(str(error))
            self.found += self.check.look()
        finally:
            self.site.kill_all()
        return self.found


class Torture:
    """Campaigns one after the other, in folders of their own; that of a campaign with violations is kept."""

    def __init__(self, seed: int, *, bug: str = "", folder: Path | None = None) -> None:
        self.seed = seed
        self.bug = bug
        self.folder = folder or Path(tempfile.mkdtemp(prefix="perdure-torture-"))
        self.done = Figures()
        self.now = Figures()
        self.began = time.monotonic()
        self._said = self.began

    @property
    def figures(self) -> Figures:
        return self.done + self.now

    def run(self, rounds: int, per_database: int = PER_DATABASE) -> list[str]:
        while self.done.rounds < rounds:
            name = f"{self.seed}-{self.done.databases}"
            campaign = Campaign(self.folder / name, name, bug=self.bug, tell=self._tell)
            found = campaign.play(min(per_database, rounds - self.done.rounds))
            self.done, self.now = self.done + campaign.figures, Figures()
            if found:
                return found
            shutil.rmtree(campaign.site.places.folder)
        shutil.rmtree(self.folder, ignore_errors=True)
        return []

    def _tell(self, figures: Figures) -> None:
        self.now = figures
        if time.monotonic() - self._said > PROGRESS_EVERY_S:
            self._said = time.monotonic()
            print(f"  {self._said - self.began:6.0f} s: {self.figures}", flush=True)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="torture", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=ROUNDS, help="how often to do harm and to look")
    parser.add_argument("--seed", type=int, default=None, help="repeats what is asked and done")
    parser.add_argument("--per-database", type=int, default=PER_DATABASE, help="rounds before a new file is begun")
    parser.add_argument("--bug", default="", help="plant a bug of crash_bugs.py, to see it found")
    options = parser.parse_args(arguments)
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    signal.signal(signal.SIGTERM, _interrupt)
    print(f"torture: seed {seed}, {options.rounds:,} rounds", flush=True)
    torture = Torture(seed, bug=options.bug)
    status = 0
    try:
        found = torture.run(options.rounds, options.per_database)
    except KeyboardInterrupt:
        found, status = [], 130
        print("interrupted")
        shutil.rmtree(torture.folder, ignore_errors=True)
    for line in found[:SHOWN]:
        print(f"VIOLATION {line}")
    if len(found) > SHOWN:
        print(f"… and {len(found) - SHOWN} more")
    if found:
        status = 1
        print(f"everything is in {torture.folder}; again: make torture ROUNDS={options.rounds} SEED={seed}")
    print(f"torture: seed {seed}: {torture.figures}, {time.monotonic() - torture.began:,.0f} s")
    return status


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
