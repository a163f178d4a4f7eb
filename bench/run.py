"""Runs the measurements that the wanted figures need, and computes the figures."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.figures import FIGURES, Figure, Measurement, measurements, raw

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 900
DIVIDED_BY_R = ("perdure.seq", "perdure.conc")


class JobFailed(Exception):
    """A job ended without a figure. `output` is all that it said on stderr."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


@dataclass(frozen=True)
class Outcome:
    """A figure and how it came out. `value` is None if a job that it needs failed; `error` says why."""

    figure: Figure
    value: float | None
    error: str = ""

    @property
    def ok(self) -> bool:
        return self.value is not None and (self.figure.bar is None or self.figure.bar.met_by(self.value))


class Bench:
    """One run of the benchmark. `samples` holds every single result by the name of its measurement."""

    def __init__(self, folder: Path, *, quick: bool) -> None:
        self.folder = folder
        self.quick = quick
        self.samples: dict[str, list[float]] = {}
        self.errors: dict[str, str] = {}

    @property
    def medians(self) -> dict[str, float]:
        return {name: statistics.median(samples) for name, samples in self.samples.items()}

    def run(self, wanted: Iterable[str]) -> list[Outcome]:
        """Measure what the figures with the ids in `wanted` need; return them in the usual order."""
        ids = set(wanted)
        figures = [figure for figure in FIGURES if figure.id in ids]
        needed = {name for figure in figures for name in figure.needs}
        jobs = [measurement for measurement in measurements(quick=self.quick) if measurement.name in needed]
        # R drifts with what else the disk does: it is taken right before and right after the jobs divided by it.
        if "raw" in needed:
            self._measure(raw(quick=self.quick))
        for job in jobs:
            if job.name in DIVIDED_BY_R:
                self._measure(job)
        if "raw" in needed:
            self._measure(raw(quick=self.quick))
        for job in jobs:
            if job.name not in DIVIDED_BY_R:
                self._measure(job)
        return [self._outcome(figure) for figure in figures]

    def _outcome(self, figure: Figure) -> Outcome:
        errors = [f"{name}: {self.errors[name]}" for name in figure.needs if name in self.errors]
        if errors:
            return Outcome(figure, None, "; ".join(errors))
        return Outcome(figure, figure.value(self.medians))

    def _measure(self, measurement: Measurement) -> None:
        for run in range(measurement.runs):
            label = f"{measurement.name} {run + 1}/{measurement.runs}" if measurement.runs > 1 else measurement.name
            try:
                values = _values(measurement, self.folder)
            except JobFailed as error:
                self.errors[measurement.name] = str(error)
                say(f"{label}: FAILED: {error}\n{error.output}")
                return
            self.samples.setdefault(measurement.name, []).extend(values)
            say(f"{label}: {', '.join(f'{value:,.4g}' for value in values)} {measurement.unit}")


def say(line: str) -> None:
    """Print progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def _values(measurement: Measurement, folder: Path) -> list[float]:
    """Run the job once in its own process and folder; return its figures."""
    with tempfile.TemporaryDirectory(prefix="job-", dir=folder) as fresh:
        command = [sys.executable, "-m", measurement.module, *measurement.arguments, "--dir", fresh]
        try:
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            raise JobFailed(f"not done after {TIMEOUT_S} s") from None
    if done.returncode:
        *_, last_line = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise JobFailed(last_line, done.stderr)
    result = json.loads(done.stdout)
    return [result["steps_per_s"]] if "steps_per_s" in result else [float(value) for value in result["values"]]
