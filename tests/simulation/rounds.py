"""Runs many seeds, one after the other, and adds up what they showed."""

from __future__ import annotations

import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from simulation.world import Report, World

MEMORY = Path("/dev/shm")
"""A file system in memory, where there is one: what a power cut does to a disk is not simulated here."""


@dataclass
class Totals:
    """What a number of seeds showed."""

    seeds: int = 0
    executions: int = 0
    attempts: int = 0
    events: int = 0
    commits: int = 0
    virtual_s: float = 0.0
    faults: Counter[str] = field(default_factory=Counter)
    violations: list[Report] = field(default_factory=list)

    def add(self, report: Report) -> None:
        self.seeds += 1
        self.executions += report.executions
        self.attempts += report.attempts
        self.events += report.events
        self.commits += report.commits
        self.virtual_s += report.virtual_s
        self.faults.update(report.faults)
        if report.violation:
            self.violations.append(report)

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in sorted(self.faults.items()))
        return (
            f"seeds: {self.seeds:,}\nfaults: {sum(self.faults.values()):,} ({kinds})\n"
            f"executions: {self.executions:,}, attempts: {self.attempts:,}, events: {self.events:,}\n"
            f"commits checked: {self.commits:,}, virtual time: {self.virtual_s / 3600:.1f} h\n"
            f"violations: {len(self.violations)}"
        )


@contextmanager
def folder() -> Iterator[Path]:
    """Give a folder for the files of many seeds."""
    with tempfile.TemporaryDirectory(prefix="perdure-sim-", dir=MEMORY if MEMORY.is_dir() else None) as name:
        yield Path(name)


def run_seed(seed: int, within: Path, keep_timeline: bool = False) -> Report:
    """Run one seed. What goes wrong in the simulation itself is reported too, with the seed."""
    with tempfile.TemporaryDirectory(dir=within) as name:
        world = World(seed, Path(name))
        try:
            return world.run(keep_timeline)
        except Exception:
            return Report(seed, f"the simulation failed: {traceback.format_exc()}", timeline=world.timeline.tail())


def run_seeds(seeds: Iterable[int], failures: int = 1, told: Callable[[Totals], object] | None = None) -> Totals:
    """Run seeds until so many of them have failed. `told` hears of the totals after each."""
    totals = Totals()
    with folder() as within:
        for seed in seeds:
            totals.add(run_seed(seed, within))
            if told is not None:
                told(totals)
            if len(totals.violations) >= failures:
                break
    return totals


def story(report: Report) -> str:
    """Write what people need of a seed: what was drawn, what happened, and how it ended."""
    again = f"repeat it: make sim SEED={report.seed}"
    ending = f"{report.violation}\n{again}" if report.violation else f"all was well; trace {report.hash}"
    return f"seed {report.seed}: {report.options}\n{report.timeline}\nseed {report.seed}: {ending}"
