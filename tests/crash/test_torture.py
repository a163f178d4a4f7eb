"""Workers that are killed over and over lose nothing that was acknowledged and repeat nothing that was done."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_bugs import BUGS
from crash_ledger import Effect, Tail
from torture import Campaign, Torture

ROUNDS = 15
"""For each of the two halves: they run beside each other."""
MOST_ROUNDS = 30

SEEN_AS = {
    "start before commit": "before its schedule was committed",
    "forget starts": "a start was acknowledged, and there is no such execution",
    "apply twice": "a transaction is in the table 2 times",
    "forget timers": "its timer .* is missing",
    "forget state": "its state",
    "forget statuses": "its history ends with|its history goes on",
    "take requests twice": "twice|out of order",
    "unstable key": "idempotency keys differ|its schedule is not in the file",
    "forget interruptions": "an attempt took effect twice",
    "draw anew": "does not replay",
}
"""The first sign of some of them."""
SEEN_AT = {
    "forget interruptions": ["kill_runner"],
    "ignore epoch": ["steal_lock"],
}
"""The harm that shows some of them soon."""


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("half", [1, 2])
def test_workers_that_are_killed_over_and_over(tmp_path, seed, half):
    torture = Torture(seed + half, folder=tmp_path)
    found = torture.run(ROUNDS)
    print(torture.figures)
    assert not found, f"make torture ROUNDS={ROUNDS} SEED={torture.seed}\n" + "\n".join(found)
    assert torture.figures.steps > ROUNDS


@pytest.mark.slow
@pytest.mark.timeout(400)
@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(tmp_path, bug):
    found: list[str] = []
    for seed in ("7", "8", "9", "10"):  # when it shows is a matter of luck: a process is killed when it is
        campaign = Campaign(tmp_path / seed, seed, bug=bug, only=SEEN_AT.get(bug, ()))
        found = campaign.play(MOST_ROUNDS)
        if found:
            break
    assert found, f"nobody noticed: {campaign.figures}"
    assert any(re.search(SEEN_AS.get(bug, ""), line) for line in found), "\n".join(found)


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_an_interrupted_torture_leaves_nothing_behind(tmp_path):
    command = [sys.executable, str(Path(__file__).with_name("torture.py")), "--rounds", "1000", "--seed", "7"]
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as torture:
        deadline = time.monotonic() + 60
        while not (pids := _workers(tmp_path)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        torture.send_signal(signal.SIGINT)
        said, _ = torture.communicate(timeout=60)
    assert torture.returncode == 130
    assert "interrupted" in said
    assert re.search(r"seed 7: .* 0 violations", said)
    assert not [pid for pid in pids if _lives(pid)]
    assert not list(tmp_path.iterdir())


def _workers(folder: Path) -> set[int]:
    """Give the processes that took effect."""
    return {effect.pid for path in folder.rglob("effects") for effect in Tail(path, Effect).read()}


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
