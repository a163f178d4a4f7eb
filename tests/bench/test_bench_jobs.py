"""Every job of the benchmark runs, on little: it must not be found broken on the day that it is needed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BESIDE = Path(sys.executable)
JOBS = {
    "seq": ("steps=20", "synchronous=normal"),
    "conc": ("workflows=3", "steps=3"),
    "sync_def": ("workflows=3", "steps=3"),
    "workflows": ("count=5",),
    "children": ("count=5",),
    "payload": ("steps=3", "size=100"),
    "start_result": ("count=5",),
    "cross": ("count=10",),
    "signals": ("count=200",),
    "def_threads": ("workflows=20",),
    "long": ("steps=11000",),
    "sleepers": ("count=2000", "due=20", "spread=1"),
    "cold": ("steps=5", "rounds=1"),
    "import": ("rounds=1",),
    "idle": ("seconds=2",),
    "profile": ("of=seq", "count=20"),
}


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_job_gives_its_figures(job, tmp_path):
    command = [sys.executable, "-m", "bench.jobs", job, *JOBS[job], "--dir", str(tmp_path)]
    assert_figures(command)


REPLICATED = {
    "overhead": ("workflows=3", "steps=3", "pairs=1"),
    "lag": ("seconds=1", "workflows=3", "steps=3"),
    "barrier": ("count=3",),
    "barrier_conc": ("workflows=3", "steps=3"),
    "takeover": ("size_mb=1", "rounds=1"),
}


@pytest.mark.slow
@pytest.mark.parametrize("job", REPLICATED)
def test_a_job_with_a_replica_gives_its_figures(job, tmp_path):
    if missing := [name for name in ("litestream", "rclone", "moto_server") if not BESIDE.with_name(name).exists()]:
        reason = f"{', '.join(missing)} not installed: make setup"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    assert_figures([sys.executable, "-m", "bench.replication", job, *REPLICATED[job], "--dir", str(tmp_path)])


def assert_figures(command):
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout)["values"]
    assert values
    assert all(isinstance(value, int | float) for value in values.values())
