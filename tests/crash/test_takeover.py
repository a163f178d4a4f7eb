"""Two workers on one file: when the runner is killed, the one that stands by goes on with its work."""

from __future__ import annotations

import statistics
import time

import pytest
from crash_check import Check
from crash_ending import bring_to_an_end
from crash_ledger import Effect, Tail
from crash_site import PATIENCE_S, Process, Site

ROUNDS = 5


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_standby_takes_over_when_the_runner_is_killed(tmp_path, seed):
    site = Site(tmp_path, str(seed))
    check = Check(site)
    takeovers: list[float] = []
    try:
        for kind in ("worker", "worker", "asker"):
            site.ready(site.spawn(kind))
        for _ in range(ROUNDS):
            takeovers.append(kill_the_runner(site))
            assert not check.look()
            site.ready(site.spawn("worker"))
        bring_to_an_end(site)
        assert not check.look()
        assert not check.finish()
    finally:
        site.kill_all()
    figures = f"median {statistics.median(takeovers) * 1e3:.0f} ms, slowest {max(takeovers) * 1e3:.0f} ms"
    print(f"{ROUNDS} takeovers: {figures} from kill -9 to the next effect; {check.executions} executions, nothing lost")


def kill_the_runner(site: Site) -> float:
    """Kill the runner in the middle of its work; give the seconds until the other one's first effect."""
    runner = until(site.runner)
    effects = Tail(site.places.effects, Effect)
    until(lambda: any(effect.pid == runner.pid for effect in effects.read()))
    site.pass_time(site.choose.uniform(0, 0.2))
    others = [worker.pid for worker in site.workers if worker is not runner]
    site.kill(runner)
    killed = time.monotonic()
    effects.read()
    until(lambda: any(effect.pid in others for effect in effects.read()))
    return time.monotonic() - killed


def until(condition) -> Process:
    deadline = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not so within {PATIENCE_S:g} s"
        time.sleep(0.001)
    return found
