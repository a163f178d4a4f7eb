"""What is recorded in the repository, and whether anything got worse since.

`recorded.json` holds every figure of several whole runs, one after another on one machine. How far apart they are is
the noise of a figure: it got worse when it is further from the median than that. What looks worse is measured once
more before it is called so. Figures in ms, s or MiB are compared only on the kind of machine that they come from.
"""

from __future__ import annotations

import datetime
import json
import statistics
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.figures import FIGURES, Figure
from bench.machine import BUSY_CPUS, facts
from bench.measurements import curves
from bench.results import Results
from bench.run import Bench, Outcome, say

RECORDED = Path(__file__).with_name("recorded.json")
LEAST_NOISE = 0.10
"""What no figure is held to, however close the recorded runs were."""


@dataclass(frozen=True)
class Change:
    """One figure, now and as recorded. `verdict`: same, worse, better, or not measured."""

    figure: Figure
    value: float | None
    recorded: float
    noise: float
    """As a share of `recorded`."""

    @property
    def verdict(self) -> str:
        if self.value is None:
            return "not measured"
        moved = self.value - self.recorded
        if abs(moved) <= max(self.noise * abs(self.recorded), self.figure.grain):
            return "same"
        return "better" if (moved > 0) == self.figure.more_is_better else "worse"


def load() -> dict[str, Any]:
    """Read what is recorded."""
    recorded: dict[str, Any] = json.loads(RECORDED.read_text())
    return recorded


# --- recording ------------------------------------------------------------------------------------------------------


def record(folder: Path, runs: int, ids: Iterable[str]) -> int:
    """Run the benchmark `runs` times and write what came out; give 1 if something could not be measured. With some
    figures only, the others stay as recorded."""
    ids = list(ids)
    everything = len(ids) == len(FIGURES)
    kept = {} if everything else load()
    found: dict[str, list[float]] = {id: [] for id in ids}
    not_run: dict[str, str] = {}
    results, failed, busy = Results(), False, False
    for number in range(runs):
        say(f"--- run {number + 1} of {runs}")
        bench = Bench(folder)
        for outcome in bench.run(ids):
            _note(outcome, found, not_run)
        results.extend(bench.results)
        failed, busy = failed or bool(bench.errors), busy or bench.others > BUSY_CPUS
    if everything:
        results.extend(_curves(folder))
    figures = {**kept.get("figures", {}), **{id: values for id, values in found.items() if values}}
    recorded = {
        "recorded_on": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "runs": runs,
        "busy": busy,
        "machine": facts(folder),
        "figures": figures,
        "not_run": not_run,
        "medians": {**kept.get("medians", {}), **results.medians()},
    }
    RECORDED.write_text(json.dumps(recorded, indent=1) + "\n")
    say(f"wrote {RECORDED.name}; `make bench-docs` brings docs/performance.md up to date")
    return 1 if failed else 0


def _curves(folder: Path) -> Results:
    say("--- the curves")
    bench = Bench(folder)
    for curve in curves():
        bench.measure(curve)
    return bench.results


def _note(outcome: Outcome, found: dict[str, list[float]], not_run: dict[str, str]) -> None:
    if outcome.value is not None:
        found[outcome.figure.id].append(float(f"{outcome.value:.4g}"))
    if outcome.not_run:
        not_run[outcome.figure.id] = outcome.not_run


# --- comparing ------------------------------------------------------------------------------------------------------


def check(folder: Path, ids: Iterable[str]) -> list[Change]:
    """Run the benchmark and compare with what is recorded; measure again what looks worse, and take the better."""
    recorded = load()
    same_machine = recorded["machine"]["CPUs"] == facts(folder)["CPUs"]
    comparable = {figure.id for figure in FIGURES if figure.portable or same_machine} & set(ids)
    comparable &= recorded["figures"].keys()
    changes = _compared(folder, comparable, recorded)
    if suspicious := {change.figure.id for change in changes if change.verdict == "worse"}:
        say(f"--- once more: {', '.join(sorted(suspicious))}")
        second = {change.figure.id: change for change in _compared(folder, suspicious, recorded)}
        changes = [_better(change, second.get(change.figure.id)) for change in changes]
    return changes


def _compared(folder: Path, ids: Iterable[str], recorded: dict[str, Any]) -> list[Change]:
    return [change_of(outcome, recorded["figures"][outcome.figure.id]) for outcome in Bench(folder).run(ids)]


def change_of(outcome: Outcome, values: list[float]) -> Change:
    """Compare an outcome with the recorded values of its figure."""
    middle = statistics.median(values)
    spread = (max(values) - min(values)) / abs(middle) if middle else 0.0
    return Change(outcome.figure, outcome.value, middle, max(LEAST_NOISE, 1.5 * spread))


def _better(one: Change, other: Change | None) -> Change:
    if other is None or other.value is None or one.value is None:
        return one
    return other if (other.value > one.value) == one.figure.more_is_better else one
