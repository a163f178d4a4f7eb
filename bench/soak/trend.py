"""What counts as growth.

The first part of a run is warm-up: caches fill, and retention has nothing to delete yet. After it a line *grows* when
all three hold:

* its trend from there to the end (Theil-Sen: the median of the slopes between all pairs of samples) rises by more than
  `share` of its median level,
* and by more than `floor`, in the line's own unit, which is what a short run may drift,
* and Kendall's test says that this is no chance: z above 3.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

WARM_UP = 0.25
"""The share of a run that is not judged."""
SURE_Z = 3.0
QUIET_CPUS = 0.5
"""The machine counts as quiet while other programs keep no more CPUs busy than that."""
FEWEST = 10
"""A line with fewer samples to judge by is not judged."""


@dataclass(frozen=True)
class Watched:
    """A line that must stay flat."""

    name: str
    says: str
    unit: str
    share: float
    floor: float
    quiet: bool = False
    """Whether only samples count that were taken while other programs left the machine to us: it is a time."""


WATCHED = (
    Watched("worker.rss_mib", "memory of the worker", "MiB", 0.05, 4),
    Watched("worker.blocks", "Python objects of the worker", "blocks", 0.02, 5_000),
    Watched("worker.open_files", "open files of the worker", "files", 0.05, 3),
    Watched("worker.threads", "threads of the worker", "threads", 0.05, 5),
    Watched("asker.rss_mib", "memory of the asking process", "MiB", 0.05, 4),
    Watched("asker.blocks", "Python objects of the asking process", "blocks", 0.02, 5_000),
    Watched("asker.open_files", "open files of the asking process", "files", 0.05, 3),
    Watched("file_mib", "the file", "MiB", 0.10, 2),
    Watched("wal_mib", "its WAL", "MiB", 0.10, 2),
    Watched("asker.kept", "executions in the file", "executions", 0.10, 100),
    Watched("worker.cpu_ms", "CPU time of the worker per execution", "ms", 0.10, 1),
    Watched("worker.lag_ms", "lateness of the event loop, median", "ms", 0.25, 2, quiet=True),
    Watched("worker.start_result_ms", "start to result in the worker, median", "ms", 0.25, 5, quiet=True),
    Watched("asker.start_result_ms", "start to result from the other process, median", "ms", 0.25, 10, quiet=True),
)


@dataclass(frozen=True)
class Trend:
    """How a line went after the warm-up. `rise` is what its trend gained until the end, in its unit."""

    watched: Watched
    level: float
    low: float
    high: float
    rise: float
    z: float
    judged: bool = True

    @property
    def grows(self) -> bool:
        watched = self.watched
        return self.judged and self.rise > max(watched.share * abs(self.level), watched.floor) and self.z > SURE_Z


def judge(watched: Watched, times_s: Sequence[float], values: Sequence[float], counts: Sequence[bool]) -> Trend:
    """Judge a line's samples of a whole run, warm-up included. `counts` says which samples count."""
    start = times_s[0] + (times_s[-1] - times_s[0]) * WARM_UP
    series = zip(times_s, values, counts, strict=True)
    points = [(at, value) for at, value, counted in series if at >= start and counted]
    if len(points) < FEWEST:
        return Trend(watched, statistics.median(values), min(values), max(values), 0.0, 0.0, judged=False)
    after = [value for _, value in points]
    slope = statistics.median((y2 - y1) / (x2 - x1) for (x1, y1), (x2, y2) in combinations(points, 2))
    rise = slope * (times_s[-1] - start)
    return Trend(watched, statistics.median(after), min(after), max(after), rise, kendall_z(after))


def kendall_z(values: Sequence[float]) -> float:
    """Give how many standard deviations the count of rising pairs lies above chance."""
    n = len(values)
    rising = sum((second > first) - (second < first) for first, second in combinations(values, 2))
    return rising / math.sqrt(n * (n - 1) * (2 * n + 5) / 18)
