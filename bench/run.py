"""Runs the measurements that the wanted figures need, and computes the figures."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bench.figures import FIGURES, Figure
from bench.machine import BUSY_CPUS, Others
from bench.measurements import RAW, Measurement, measurements
from bench.results import Results

ROOT = Path(__file__).resolve().parent.parent
TIMEOUT_S = 600
STEADY = 0.25
"""A run whose R before and after differ by more than this share was disturbed: something else used the disk."""


class JobFailed(Exception):
    """A job ended without a figure. `output` is all that it said on stderr."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class NotRun(Exception):
    """A job cannot run on this machine, which is no failure."""


@dataclass(frozen=True)
class Outcome:
    """A figure and how it came out. `value` is None if a job that it needs failed (`error`) or could not run here
    (`not_run`)."""

    figure: Figure
    value: float | None
    error: str = ""
    not_run: str = ""

    @property
    def ok(self) -> bool | None:
        """Whether its bar is met; None where nothing can be said."""
        if self.not_run:
            return None
        return self.value is not None and (self.figure.bar is None or self.figure.bar.met_by(self.value))


class Bench:
    """One run of the benchmark in `folder`."""

    def __init__(self, folder: Path, *, quick: bool = False) -> None:
        self.folder = folder
        self.quick = quick
        self.results = Results()
        self.errors: dict[str, str] = {}
        self.not_run: dict[str, str] = {}
        self.others = 0.0
        """How many CPUs other programs used meanwhile."""
        self._r: float | None = None

    def run(self, wanted: Iterable[str]) -> list[Outcome]:
        """Measure what the figures with the ids in `wanted` need; return them in the usual order."""
        ids = set(wanted)
        figures = [figure for figure in FIGURES if figure.id in ids]
        needed = {name for figure in figures for name in figure.needs}
        jobs = [measurement for measurement in measurements(quick=self.quick) if measurement.name in needed]
        if "raw" in needed and not any(job.over_r for job in jobs):
            self._raw()
        others = Others()
        for job in jobs:
            self.measure(job)
        self.others = others.cpus()
        if self.others > BUSY_CPUS:
            say(f"warning: other programs kept {self.others:.1f} CPUs busy: what needs the CPU came out lower")
        return [self._outcome(figure) for figure in figures]

    def _outcome(self, figure: Figure) -> Outcome:
        errors = [f"{name}: {self.errors[name]}" for name in figure.needs if name in self.errors]
        if errors:
            return Outcome(figure, None, error="; ".join(errors))
        missing = [self.not_run[name] for name in figure.needs if name in self.not_run]
        if missing:
            return Outcome(figure, None, not_run="; ".join(missing))
        return Outcome(figure, figure.value(self.results))

    def measure(self, measurement: Measurement) -> None:
        """Run one measurement as often as it says, and again what was disturbed."""
        name, again = measurement.name, measurement.runs
        done = 0
        while done < measurement.runs:
            label = f"{name} {done + 1}/{measurement.runs}"
            try:
                steady = self._once(measurement, label, keep=again == 0)
            except NotRun as reason:
                self.not_run[name] = str(reason)
                say(f"{name}: not run: {reason}")
                return
            except JobFailed as error:
                self.errors[name] = str(error)
                say(f"{label}: FAILED: {error}\n{error.output}")
                return
            done, again = (done + 1, again) if steady else (done, again - 1)

    def _once(self, measurement: Measurement, label: str, keep: bool) -> bool:
        """Run it once. Gives false, and leaves the result out unless it is to `keep`, when R did not stand still."""
        before = (self._r or self._raw()) if measurement.over_r else None
        values = _values(measurement, self.folder)
        shown = ", ".join(f"{part} {value:,.4g}".strip() for part, value in list(values.items())[:4])
        if before is None:
            self._r = None  # too long ago for the next
            self.results.add(measurement.name, values)
            say(f"{label}: {shown} {measurement.unit}")
            return True
        after = self._raw()
        disturbed = abs(after - before) > STEADY * max(after, before)
        note = f" (R {before:,.0f}, then {after:,.0f}/s{': disturbed, once more' if disturbed and not keep else ''})"
        say(f"{label}: {shown} {measurement.unit}{note}")
        if disturbed and not keep:
            return False
        self.results.add(measurement.name, values, (before + after) / 2)
        return True

    def _raw(self) -> float:
        (self._r,) = _values(RAW, self.folder).values()
        self.results.add("raw", {"": self._r})
        return self._r


def say(line: str) -> None:
    """Print progress, apart from the result."""
    print(line, file=sys.stderr, flush=True)


def _values(measurement: Measurement, folder: Path) -> dict[str, float]:
    """Run the job once in its own process and folder; return its figures. Raises `JobFailed` or `NotRun`."""
    with tempfile.TemporaryDirectory(prefix="job-", dir=folder, ignore_cleanup_errors=True) as fresh:
        command = [sys.executable, "-m", measurement.module, *measurement.arguments, "--dir", fresh]
        output = _output(command)
    result = json.loads(output)
    if "not_run" in result:
        raise NotRun(result["not_run"])
    values: dict[str, float] = result["values"]
    return values


def _output(command: list[str]) -> str:
    """Run a command in a group of its own, so that nothing which it started outlives it; give what it printed."""
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        output, said = process.communicate(timeout=TIMEOUT_S)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        if isinstance(error, subprocess.TimeoutExpired):
            raise JobFailed(f"not done after {TIMEOUT_S} s") from None
        raise
    if process.returncode:
        *_, last_line = said.strip().splitlines() or [f"exit status {process.returncode}"]
        raise JobFailed(last_line, said)
    return output
