"""Whichever call to the system fails, for a moment or for a while: errors are clear, nothing that was told is false,
and when the fault is gone everything goes on.

`PERDURE_FAULTS=421` tries one call in every way; `PERDURE_FAULTS=all` tries every call in every way.
"""

from __future__ import annotations

import os
import sys

import pytest
from fault_calls import ERRORS, SystemCalls
from fault_kinds import DISKS, Lasting, Once
from fault_run import PATIENCE_S, Run, effects

PARTS = 6
CHOSEN = os.environ.get("PERDURE_FAULTS", "")
VARIANTS = max(map(len, ERRORS.values()))
SOON_S = 6.0

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the calls are replaced with Linux's signatures")


def numbers(place, part: int) -> list[int]:
    """Give the calls of a run that this part is to fail: every one is in one of the parts."""
    with SystemCalls() as calls:
        run = Run(place())
        run.play(run.use)
    assert effects == {"a": 1, "b": 1}
    assert {call.kind for call in calls.calls} == set(ERRORS)
    assert {call.file for call in calls.calls} >= {"db", "db-wal", "db-shm", "db-journal"}
    if CHOSEN.isdigit():
        return [int(CHOSEN)] if part == 0 else []
    return list(range(part, len(calls.calls), PARTS))


def ways(n: int, count: int) -> list[int]:
    """Give which of `count` ways to try on call n: all, or one that depends on n."""
    return list(range(count)) if CHOSEN else [n % count]


def play(run: Run, fault) -> SystemCalls:
    """Run with a fault and look afterwards without; say what was wrong and how to see it again."""
    with SystemCalls(fault) as calls:
        try:
            run.play(run.use)
            calls.fault = lambda number, call: 0
            run.play(run.look)
        except Exception as error:
            told = f"{calls.failed[:2]} failed; people were told: {run.errors[-2:]}"
            raise AssertionError(f"with PERDURE_FAULTS={fault.n}, {vars(fault)}: {error!r}; {told}") from error
    return calls


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_call_that_fails_once(place, part):
    chosen = numbers(place, part)
    failed = 0
    for n in chosen:
        for variant in ways(n, VARIANTS):
            failed += bool(play(Run(place()), Once(n, variant, wraps=not CHOSEN)).failed)
    assert failed >= 0.9 * len(chosen), "a run makes the same calls each time, but for a few"


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_disk_that_is_bad_for_a_while(place, part):
    for n in numbers(place, part):
        for way in ways(n, len(DISKS)):
            run = Run(place())
            play(run, Lasting(n, list(DISKS)[way], run.clock.monotonic))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_disk_that_stays_bad_until_everybody_has_closed(place, part):
    for n in numbers(place, part):
        for way in ways(n, len(DISKS)):
            disk = list(DISKS)[way]
            if disk not in ("locked by others", "without locks"):  # SQLite waits ten seconds for each, really
                run = Run(place(), patience_s=SOON_S)
                play(run, Lasting(n, disk, run.clock.monotonic, forever=True))
    assert SOON_S < PATIENCE_S
