"""Has spin explore runner.pml: `python tests/model/spin.py` checks everything that SETTINGS and BROKEN name.

Needs `spin` and a C compiler: spin writes the exploration as a C program.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MODEL = Path(__file__).with_name("runner.pml")
COMPILER = os.environ.get("CC", "cc")
TOOLS = ("spin", COMPILER)
TIMEOUT_S = 3_600


@dataclass(frozen=True)
class Setting:
    """What may happen, and how often. `live` also asks whether every run comes to its end, on the assumption that no
    process is held up for ever; otherwise only whether nothing bad happens. A `large` one has millions of states: it
    takes a program that is slower to make."""

    name: str
    defines: str
    live: bool = False
    large: bool = False


@dataclass(frozen=True)
class Explored:
    """How many different states there were, and what was violated in one of them; empty where nothing was."""

    states: int
    violation: str

    def __str__(self) -> str:
        return f"{self.states:,} states: {self.violation or 'nothing is violated'}"


SETTINGS = (
    Setting("killed, commits fail", "KILLS=1 FAULTS=1"),
    Setting("closed, killed", "KILLS=1 CLOSES=1"),
    Setting("lock file deleted", "THEFTS=1"),
    Setting("power cut at FULL", "CUTS=1 FAULTS=1"),
    Setting("power cut at NORMAL", "NORMAL CUTS=1"),
    Setting("killed, commits fail: ends", "KILLS=1 FAULTS=1", live=True),
    Setting("closed: ends", "CLOSES=1", live=True),
)
"""What the test suite has time for."""

LARGE = (
    Setting("killed three times, commits fail", "KILLS=3 FAULTS=1", large=True),
    Setting("killed twice, closed, commits fail", "KILLS=2 CLOSES=1 FAULTS=1", large=True),
    Setting("closed by both", "CLOSES=2 FAULTS=1", large=True),
    Setting("lock file deleted, killed", "THEFTS=1 KILLS=1", large=True),
    Setting("two power cuts at FULL, killed", "CUTS=2 KILLS=1", large=True),
    Setting("power cut at NORMAL, killed", "NORMAL CUTS=1 KILLS=1", large=True),
    Setting("killed twice, commits fail: ends", "KILLS=2 FAULTS=1", live=True, large=True),
    Setting("closed, killed: ends", "CLOSES=1 KILLS=1", live=True, large=True),
    Setting("lock file deleted: ends", "THEFTS=1", live=True, large=True),
    Setting("power cut at FULL: ends", "CUTS=1 FAULTS=1", live=True, large=True),
)
"""What a person has time for."""

BROKEN = (
    Setting("an attempt starts before the commit", "BREAK_EFFECT_FIRST KILLS=1"),
    Setting("a caller is answered before the commit", "BREAK_REPLY_FIRST FAULTS=1"),
    Setting("no commit asks for the epoch", "BREAK_NO_EPOCH THEFTS=1"),
    Setting("a signal leaves the inbox in another transaction", "BREAK_INBOX_APART KILLS=1"),
    Setting("a transactional activity writes in another transaction", "BREAK_ROW_APART KILLS=1"),
    Setting("a failed commit forgets how attempts ended", "BREAK_FORGET_OUTCOME FAULTS=1"),
    Setting("an interrupted attempt gives its number to the next", "BREAK_SAME_NUMBER KILLS=1"),
    Setting("an attempt after a stopped one leaves no trace", "BREAK_CLEAN_UNPROVED KILLS=1 CLOSES=1"),
    Setting("the lock goes before the attempts have ended", "BREAK_LEAVE_EARLY CLOSES=1"),
    Setting("no commit is synced", "BREAK_NO_SYNC NORMAL CUTS=1"),
    Setting("only those look who are rung", "BREAK_NO_LOOK", live=True),
)
"""Each with one rule left out, and the least that it takes to show."""


def explore(setting: Setting, folder: Path) -> Explored:
    """Explore all that can happen in a setting. `folder` is where the program is made."""
    defines = [f"-D{define}" for define in setting.defines.split()]
    _run(["spin", "-a", *defines, str(MODEL)], folder)
    how = ["-DNFAIR=8"] if setting.live else ["-DSAFETY", "-DNOCLAIM"]
    how += ["-O2", "-DCOLLAPSE"] if setting.large else ["-O0"]
    _run([COMPILER, "-w", *how, "-o", "pan", "pan.c"], folder)
    said = _run(["./pan", "-m1000000", *(["-a", "-f"] if setting.live else ["-E"])], folder)
    states = re.search(r"(\d+) states, stored", said)
    errors = re.search(r"errors: (\d+)", said)
    if states is None or errors is None or "max search depth too small" in said or "out of memory" in said:
        raise RuntimeError(f"spin did not explore everything:\n{said}")
    violation = re.search(r"^pan:1: (.*) \(at depth", said, re.MULTILINE)
    if (violation is None) != (errors[1] == "0"):
        raise RuntimeError(f"cannot read what spin says:\n{said}")
    return Explored(int(states[1]), violation[1] if violation else "")


def missing_tools() -> list[str]:
    return [tool for tool in TOOLS if shutil.which(tool) is None]


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


def main() -> int:
    if missing := missing_tools():
        print(
            f"not found: {', '.join(missing)}; Debian and Ubuntu: apt-get install spin gcc libc6-dev", file=sys.stderr
        )
        return 2
    wrong = 0
    for setting in (*SETTINGS, *LARGE, *BROKEN):
        with tempfile.TemporaryDirectory(prefix="perdure-model-") as folder:
            found = explore(setting, Path(folder))
        as_wanted = bool(found.violation) == (setting in BROKEN)
        wrong += not as_wanted
        print(f"{'ok' if as_wanted else 'WRONG':6}{setting.name} ({setting.defines}): {found}", flush=True)
    print(
        f"{len(SETTINGS) + len(LARGE)} settings and {len(BROKEN)} broken rules explored, {wrong} not as they should be"
    )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
