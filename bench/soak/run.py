"""Runs it: starts the processes, samples them, has them end in order, and looks at the file that they leave."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.machine import Others
from bench.soak.process import Process, open_process
from bench.soak.samples import busy_s, sample_files
from bench.soak.trend import QUIET_CPUS, WATCHED, Trend, judge
from perdure.store.sqlite import SqliteStore

PAUSE_S = 0.2
"""How long a customer thinks, in the mean."""
SAMPLES = 360
"""So many in a long run; a short one has one every half second."""
KEPT_FACTS = (
    "rss_mib", "open_files", "threads", "blocks", "lag_ms", "lag_p95_ms", "start_result_ms", "start_result_p95_ms",
    "done", "kept", "deleted",
)  # fmt: skip


@dataclass
class Found:
    """What a run found: times in seconds since its start, the samples of each line, and what came out wrong."""

    seed: int
    seconds: float
    times_s: list[float] = field(default_factory=list)
    samples: dict[str, list[float]] = field(default_factory=dict)
    wrong: list[str] = field(default_factory=list)
    executions: int = 0
    """How many the customers had: children and continued runs are not counted."""
    signals: int = 0
    """How many the execution that never ends got."""
    others_cpus: float = 0.0
    """How many CPUs other programs kept busy, in the mean."""

    def trends(self) -> list[Trend]:
        """Judge every line. Times of a line that needs a quiet machine count where others left us one."""
        quiet = [cpus <= QUIET_CPUS for cpus in self.samples["others_cpus"]]
        always = [True] * len(quiet)
        return [
            judge(watched, self.times_s, self.samples[watched.name], quiet if watched.quiet else always)
            for watched in WATCHED
        ]

    @property
    def well(self) -> bool:
        return not self.wrong and not any(trend.grows for trend in self.trends())


class Soak:
    """One run in `folder`. `worker` is how the process that is watched is started."""

    def __init__(
        self, folder: Path, seconds: float, seed: int, worker: Sequence[str] = ("-m", "bench.soak.worker")
    ) -> None:
        self.database = folder / "soak.db"
        self.log = folder / "soak.log"
        self.every_s = max(0.5, seconds / SAMPLES)
        self.keep_s = min(60.0, max(2.0, seconds / 30))
        """How long what ended stays in the file."""
        self.worker = worker
        self.found = Found(seed, seconds)
        self._cpu_s = 0.0
        self._busy = (0.0, 0.0)

    async def run(self) -> Found:
        """Run it to its end. Raises `SoakFailed`."""
        found, others = self.found, Others()
        shared = [str(self.database), str(found.seed), str(PAUSE_S)]
        asking = ["-m", "bench.soak.asker", *shared, str(self.keep_s)]
        async with open_process("worker", self.log, [*self.worker, *shared]) as worker:
            async with open_process("asker", self.log, asking) as asker:
                await self._sample(worker, asker)
                ends = json.loads(await asker.end())
            await worker.end()
        found.signals = ends["beats"]
        if ends["arrived"] != ends["beats"]:
            found.wrong.append(f"asker: {ends['beats']} signals were sent and {ends['arrived']} arrived")
        found.others_cpus = round(others.cpus(), 2)
        found.wrong += [f"the log: {line}" for line in self.log.read_text(errors="replace").splitlines()]
        self._examine()
        return found

    async def _sample(self, worker: Process, asker: Process) -> None:
        facts = {process.name: await process.ask() for process in (worker, asker)}
        self._others(0.0, facts)
        self._cpu_s = facts["worker"]["cpu_s"]
        due = began = time.monotonic()
        while due < began + self.found.seconds:
            due += self.every_s
            await asyncio.sleep(max(due - time.monotonic(), 0))
            facts = {process.name: await process.ask() for process in (worker, asker)}
            self._keep(time.monotonic() - began, facts)

    def _keep(self, at_s: float, facts: dict[str, dict[str, Any]]) -> None:
        found, done, cpu_s = self.found, 0, facts["worker"]["cpu_s"]
        values = {**sample_files(self.database), "others_cpus": self._others(at_s, facts)}
        for name, of in facts.items():
            found.wrong += [f"{name}: {line}" for line in of["wrong"]]
            done += of["done"]
            values.update({f"{name}.{key}": of[key] for key in KEPT_FACTS if key in of})
        found.executions += done
        values["worker.cpu_ms"] = (cpu_s - self._cpu_s) / max(done, 1) * 1e3
        self._cpu_s = cpu_s
        found.times_s.append(round(at_s, 2))
        for key, value in values.items():
            found.samples.setdefault(key, []).append(round(value, 3))

    def _others(self, at_s: float, facts: dict[str, dict[str, Any]]) -> float:
        """Give how many CPUs other programs kept busy since the last sample."""
        before, self._busy = self._busy, (at_s, busy_s() - sum(of["cpu_s"] for of in facts.values()))
        return max(self._busy[1] - before[1], 0.0) / (at_s - before[0]) if at_s else 0.0

    def _examine(self) -> None:
        """Check the file from end to end."""
        store = SqliteStore(self.database, create=False)
        try:
            bad = [f"the file: {what}: {detail}" for what, ok, detail in store.check(quick=False) if not ok]
        finally:
            store.close()
        self.found.wrong += bad
