"""Whenever a database is removed or replaced for a while: what people were told is in it when it is back, and all goes
on. `PERDURE_FAULTS=all` tries every call to the system as the moment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from fault_calls import Call, SystemCalls
from fault_kinds import LASTS_S
from fault_run import Run

STEP = 1 if os.environ.get("PERDURE_FAULTS") == "all" else 12


class Away:
    """At the n-th call after the signal was acknowledged the database goes away, for a while.

    Not earlier, and not after the end where another file takes its place: who opens that one meanwhile is told what is
    true of that one.
    """

    def __init__(self, run: Run, n: int, replaced: bool) -> None:
        self.run = run
        self.n = n
        self.replaced = replaced
        self.kept = run.path.with_name("kept")
        self.seen = 0
        self.gone = False

    def __call__(self, number: int, call: Call) -> int:
        if "signalled" in self.run.told and not (self.replaced and "ended" in self.run.told):
            self.seen += 1
            if self.seen == self.n:
                self.run.path.rename(self.kept)
                if self.replaced:
                    shutil.copy(self.kept, self.run.path)
                self.gone = True
                self.run.loop.call_later(LASTS_S, self.back)
        return 0

    def back(self) -> None:
        if self.kept.exists():
            self.kept.replace(self.run.path)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc").is_dir(), reason="the calls are replaced with Linux's signatures")
@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
def test_a_database_that_is_away_for_a_while(place, replaced, caplog):
    n, again = 1, True
    while again:
        run = Run(place())
        away = Away(run, n, replaced)
        try:
            with SystemCalls(away):
                run.play(run.use)
            away.back()
            run.play(run.look)
        except Exception as error:
            raise AssertionError(f"away at call {n} after the signal: {error!r}, told {run.errors[-1:]}") from error
        again, n = away.gone, n + STEP
    print(f"{n // STEP} moments")
    assert n > 50
    assert f"was {'replaced' if replaced else 'removed'} while it was open" in caplog.text
