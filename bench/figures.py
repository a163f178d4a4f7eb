"""What the benchmark says: the figures and the bars that they are held to. The measurements are in measurements.py."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from bench.results import Results

MACHINE_BOUND = ("ms", "s", "MiB", "events/s", "commits/s", "steps/s")
"""Units of figures that another machine cannot be held to."""


@dataclass(frozen=True)
class Bar:
    """What a figure must reach (`>=`) or must not exceed (`<=`)."""

    sign: Literal[">=", "<="]
    limit: float

    def met_by(self, value: float) -> bool:
        return value >= self.limit if self.sign == ">=" else value <= self.limit

    def __str__(self) -> str:
        return f"{self.sign} {self.limit:,g}"


@dataclass(frozen=True)
class Figure:
    """One line of the result. `value` computes it from the results of the measurements in `needs`."""

    id: str
    says: str
    unit: str
    needs: tuple[str, ...]
    value: Callable[[Results], float]
    bar: Bar | None = None
    more_is_better: bool = True
    grain: float = 0.0
    """A difference that means nothing, in `unit`."""

    @property
    def portable(self) -> bool:
        """Whether it can be compared with what was recorded on another machine."""
        return self.unit not in MACHINE_BOUND


def _over_r(id: str, says: str, name: str, limit: float | None = None) -> Figure:
    """A rate divided by R: each run by the R that was taken right before and after it; the median of the runs."""
    bar = None if limit is None else Bar(">=", limit)
    return Figure(id, says, "x R", ("raw", name), lambda results: results.over_r(name), bar)


def _over(id: str, says: str, name: str, peer: str, limit: float) -> Figure:
    unit = "x " + {"dbos": "DBOS", "restate": "Restate"}[peer.partition(".")[0]]
    return Figure(id, says, unit, (name, peer), lambda results: results.over(name, peer), Bar(">=", limit))


def _at_most(id: str, says: str, unit: str, key: str, limit: float | None, grain: float = 0.0) -> Figure:
    """A figure that is to be small: the median of the sample `key`."""
    name = key.partition(":")[0]
    bar = None if limit is None else Bar("<=", limit)
    return Figure(id, says, unit, (name,), lambda results: results.median(key), bar, False, grain)


def _at_least(id: str, says: str, unit: str, key: str, limit: float) -> Figure:
    """A figure that is to be large: the median of the sample `key`."""
    return Figure(id, says, unit, (key.partition(":")[0],), lambda results: results.median(key), Bar(">=", limit))


def _commits(id: str, says: str, key: str, limit: float) -> Figure:
    """A latency in units of 1/R."""
    needs = ("raw", key.partition(":")[0])
    return Figure(id, says, "commits", needs, lambda results: results.in_commits(key), Bar("<=", limit), False)


def _raw(results: Results) -> float:
    return results.median("raw")


def _replay(results: Results) -> float:
    return results.median("long:replay")


FIGURES = (
    Figure("raw_commits_s", "R: one-row commits of bare SQLite here", "commits/s", ("raw",), _raw),
    _over_r("seq_ratio", "one workflow, 2,000 steps in sequence: steps per raw commit", "seq", 0.75),
    _over_r("conc_ratio", "1,000 workflows at once, 20 steps each: steps per raw commit", "conc", 4),
    _over("conc_vs_dbos", "many workflows at once: perdure's steps/s by those of DBOS", "conc", "dbos.conc", 60),
    _over("seq_vs_dbos", "one workflow: perdure's steps/s by those of DBOS", "seq", "dbos.seq", 8),
    _over("conc_vs_restate", "many workflows at once: by those of Restate", "conc", "restate.conc", 30),
    _over("seq_vs_restate", "one workflow: by those of Restate", "seq", "restate.seq", 6),
    _over_r("workflows_s_ratio", "5,000 one-step workflows of one client: workflows per raw commit", "workflows", 1),
    _commits("start_result_p50_commits", "start to result of one step, idle engine: median", "start_result:p50", 4),
    _at_most("start_result_p99_ms", "the same: 99th percentile", "ms", "start_result:p99", 5, 0.5),
    _at_most("cross_p50_ms", "the same from a second process: median", "ms", "cross:p50", 5, 0.2),
    _at_most("idle_cpu_pct", "CPU of an idle runner and an idle waiting client", "% of a CPU", "idle", 1, 0.3),
    _at_most("flat_100k", "100,000 steps in one workflow: time of a step at the end by the beginning", "x",
             "long:flat", 1.15, 0.1),
    Figure("replay_events_s", "replay of that history, reading included", "events/s", ("long",), _replay,
           Bar(">=", 50_000)),
    _at_most("sleepers_start_s", "engine start on 1,000,000 sleepers, to a first result", "s",
             "sleepers:start_s", 1, 0.05),
    _at_most("sleepers_rss_mb", "its memory at the most, timers included", "MiB", "sleepers:rss_mb", 300, 10),
    _at_most("timer_p99_ms", "lateness of 1,000 of them that fall due", "ms", "sleepers:timer_p99", 50, 10),
    _at_most("timer_burst_p99_ms", "lateness of 1,000 of them that fall due in one instant", "ms",
             "sleepers:burst_p99", None, 20),
    _at_most("def_threads", "more threads for 10,000 waiting `def` workflows", "threads", "def_threads", 0, 0.5),
    _at_most("cold_ms", "new process to first new step of a recovered workflow", "ms", "cold", 300, 15),
    _at_most("import_ms", "`import perdure`, less a bare Python", "ms", "import", 100, 5),
    _at_most("bytes_per_step", "file size by steps, small results, 100,000 steps", "bytes", "long:bytes", 150, 1),
    _at_most("tenant_idle_kb", "memory by 1,000 idle tenants, each used once", "KiB", "tenants", 50, 5),
    _at_most("tenant_idle_handles", "file handles by 1,000 idle tenants", "handles", "tenants:handles", None, 0.01),
    _at_most("tenants_cpu_pct", "CPU of looking after 1,000 idle tenants", "% of a CPU", "tenants:cpu_pct", None, 0.5),
    _over_r("signal_ratio", "signals of another process to one workflow, per raw commit", "signals", 1),
    _over_r("children_ratio", "one parent, 10,000 children of one step: per raw commit", "children", 1),
    _over_r("sync_def_ratio", "1,000 `def` workflows, 20 `def` steps each: steps per raw commit", "sync_def", 1.5),
    _at_least("repl_overhead", "1,000 workflows at once with a replica: steps/s by those without", "x",
              "repl.overhead", 0.85),
    _at_most("repl_lag_p99_ms", "from a commit until it is in the bucket, nobody waits: 99th percentile", "ms",
             "repl.lag", 1_500, 50),
    _at_most("barrier_p50_ms", "start that is answered once it is in the bucket: median", "ms",
             "repl.barrier:p50", 150, 10),
    _at_least("barrier_conc_steps_s", "1,000 workflows, each step waits for the bucket", "steps/s",
              "repl.barrier_conc", 2_000),
    _at_most("takeover_s", "a worker is told to stop, another one goes on elsewhere: to its first step, 50 MB", "s",
             "repl.takeover", 3, 0.2),
    _over_r("seq_normal_ratio", 'as seq_ratio, with synchronous="normal" (R stays that of FULL)', "seq_normal"),
    _over_r("conc_normal_ratio", 'as conc_ratio, with synchronous="normal"', "conc_normal"),
)  # fmt: skip
