"""What was measured, run by run."""

from __future__ import annotations

import statistics
from collections.abc import Mapping


class Results:
    """`samples` holds every figure of every run by its key: `name`, or `name:part` where a job gives several; `raws`
    the R beside each run of a job that is divided by it."""

    def __init__(self) -> None:
        self.samples: dict[str, list[float]] = {}
        self.raws: dict[str, list[float]] = {}

    def add(self, name: str, values: Mapping[str, float], r: float | None = None) -> None:
        """Take the figures of one run."""
        for part, value in values.items():
            self.samples.setdefault(f"{name}:{part}" if part else name, []).append(value)
        if r is not None:
            self.raws.setdefault(name, []).append(r)

    def extend(self, other: Results) -> None:
        """Take the samples of another run of the benchmark, to give the medians of all."""
        for key, values in other.samples.items():
            self.samples.setdefault(key, []).extend(values)

    def median(self, key: str) -> float:
        return statistics.median(self.samples[key])

    def over(self, key: str, other: str) -> float:
        """Divide medians."""
        return self.median(key) / self.median(other)

    def over_r(self, key: str) -> float:
        """Give the median of a rate divided by the R beside it."""
        return statistics.median(value / r for value, r in self._pairs(key))

    def in_commits(self, key: str) -> float:
        """Give the median of milliseconds as so many raw commits."""
        return statistics.median(value / 1e3 * r for value, r in self._pairs(key))

    def _pairs(self, key: str) -> list[tuple[float, float]]:
        return list(zip(self.samples[key], self.raws[key.partition(":")[0]], strict=True))

    def medians(self) -> dict[str, float]:
        """Give the median of everything, to three or four significant digits."""
        return {key: float(f"{statistics.median(values):.4g}") for key, values in self.samples.items()}
