"""Whichever sync of a commit fails, once or for a while: nobody is told that it worked, and what was told is true."""

from __future__ import annotations

import pytest
from fault_run import PATIENCE_S, Run
from fault_syncs import Syncs


def play(run: Run, fault) -> Syncs:
    with Syncs(fault) as syncs:
        run.play(run.use)
    run.play(run.look)
    return syncs


@pytest.mark.parametrize("length", [1, 3])
def test_a_sync_that_fails(place, length):
    count = play(Run(place()), lambda number: False).count
    assert count > 10
    for n in range(1, count + 1):
        run = Run(place())
        assert play(run, lambda number, n=n: n <= number < n + length).failed
        assert any("SQLITE_IOERR_FSYNC" in told for told in run.errors) or not run.errors


def test_syncs_that_fail_until_everybody_has_closed(place):
    count = play(Run(place()), lambda number: False).count
    for n in range(1, count + 1):
        play(Run(place(), patience_s=PATIENCE_S / 20), lambda number, n=n: number >= n)
