"""What the benchmark says: the figures, the bars that they are held to, and the measurements they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Measurement:
    """One job, run `runs` times, each in a process of its own on a new database; the median counts."""

    name: str
    module: str
    arguments: tuple[str, ...]
    runs: int
    unit: str = "steps/s"


@dataclass(frozen=True)
class Bar:
    """What a figure must reach (`>=`) or must not exceed (`<=`)."""

    sign: Literal[">=", "<="]
    limit: float

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.sign == ">=" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:g}"


Medians = Mapping[str, float]


@dataclass(frozen=True)
class Figure:
    """One line of the result. `value` computes it from the medians of the measurements in `needs`."""

    id: str
    says: str
    unit: str
    needs: tuple[str, ...]
    value: Callable[[Medians], float]
    bar: Bar | None = None


def _ratio(numerator: str, denominator: str) -> Callable[[Medians], float]:
    return lambda medians: medians[numerator] / medians[denominator]


# `raw` is R. It is measured on both sides of the jobs that are divided by it, hence not listed in `measurements`.
FIGURES = (
    Figure(
        "raw_commits_s",
        "R: one-row commits per second of bare SQLite here",
        "commits/s",
        ("raw",),
        lambda medians: medians["raw"],
    ),
    Figure(
        "seq_ratio",
        "one workflow, a step at a time: steps per raw commit",
        "x R",
        ("raw", "perdure.seq"),
        _ratio("perdure.seq", "raw"),
        Bar(">=", 0.75),
    ),
    Figure(
        "conc_ratio",
        "1,000 workflows at once: steps per raw commit",
        "x R",
        ("raw", "perdure.conc"),
        _ratio("perdure.conc", "raw"),
        Bar(">=", 4),
    ),
    Figure(
        "flat_100k",
        "100,000 steps in one workflow: time of the last 1,000 by the first",
        "x",
        ("perdure.flat",),
        lambda medians: medians["perdure.flat"],
        Bar("<=", 1.15),
    ),
    Figure(
        "conc_vs_dbos",
        "many workflows at once: perdure's steps/s by those of DBOS",
        "x DBOS",
        ("perdure.conc", "dbos.conc"),
        _ratio("perdure.conc", "dbos.conc"),
        Bar(">=", 60),
    ),
    Figure(
        "seq_vs_dbos",
        "one workflow: perdure's steps/s by those of DBOS",
        "x DBOS",
        ("perdure.seq", "dbos.seq"),
        _ratio("perdure.seq", "dbos.seq"),
        Bar(">=", 8),
    ),
)


def raw(*, quick: bool) -> Measurement:
    """R, one side of the bracket."""
    return Measurement(
        "raw", "bench.raw", ("--seconds", "0.5" if quick else "1.5", "--rounds", "3"), runs=1, unit="commits/s"
    )


def measurements(*, quick: bool) -> tuple[Measurement, ...]:
    """All jobs, in the order that they run in: those divided by R first. `quick` is smaller, and so less exact."""
    runs = 1 if quick else 5
    peer_runs = 1 if quick else 3
    perdure, dbos = "bench.jobs", "bench.peers.dbos_jobs"
    seq = ("seq", "--steps", "500" if quick else "2000")
    conc = ("conc", "--workflows", "200" if quick else "1000", "--steps", "10" if quick else "20")
    flat = ("flat", "--steps", "20000" if quick else "100000")
    # Fewer steps than perdure gets: only rates are compared (see bench/peers/dbos_jobs.py).
    dbos_seq = ("seq", "--steps", "200" if quick else "1000")
    dbos_conc = ("conc", "--workflows", "20" if quick else "100", "--steps", "20")
    return (
        Measurement("perdure.seq", perdure, seq, runs),
        Measurement("perdure.conc", perdure, conc, runs),
        Measurement("dbos.seq", dbos, dbos_seq, peer_runs),
        Measurement("dbos.conc", dbos, dbos_conc, peer_runs),
        Measurement("perdure.flat", perdure, flat, peer_runs, unit="x"),
    )
