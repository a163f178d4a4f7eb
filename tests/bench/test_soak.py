"""The long run, made short: the tool itself, its rule for what grows, and whether anything leaks grossly."""

from __future__ import annotations

import math
import random
import sys

import pytest

from bench.soak.__main__ import report
from bench.soak.picture import draw
from bench.soak.run import Soak
from bench.soak.trend import WATCHED, Trend, Watched, judge

LEAKING = ("-m", "tests.bench.soak_leaking_worker")
linux = pytest.mark.skipif(sys.platform != "linux", reason="the long run reads /proc")
memory = Watched("memory", "memory", "MiB", share=0.05, floor=4)


def judged(values: list[float], watched: Watched = memory) -> Trend:
    return judge(watched, [float(n) for n in range(len(values))], values, [True] * len(values))


@pytest.fixture
def draw_from() -> random.Random:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    return random.Random(seed)


# --- the rule -------------------------------------------------------------------------------------------------------


def test_noise_and_waves_and_single_peaks_are_flat(draw_from):
    noise = [100 + draw_from.uniform(-20, 20) for _ in range(200)]
    waves = [100 + 30 * math.sin(n / 5) for n in range(200)]
    peaks = [100.0 if n % 37 else 1_000.0 for n in range(200)]
    assert not any(judged(values).grows for values in (noise, waves, peaks))


def test_what_rises_slowly_under_its_noise_grows(draw_from):
    trend = judged([100 + 0.1 * n + draw_from.uniform(-5, 5) for n in range(200)])
    assert trend.grows
    assert 10 < trend.rise < 20


def test_what_rose_in_the_warm_up_only_is_flat():
    assert not judged([min(n, 40) * 10.0 for n in range(200)]).grows


def test_what_falls_does_not_grow():
    assert not judged([1_000.0 - n for n in range(200)]).grows


def test_a_rise_below_the_floor_or_below_the_share_is_flat():
    assert not judged([1 + n * 0.02 for n in range(200)]).grows  # 3 MiB: less than the floor
    assert not judged([1_000 + n * 0.2 for n in range(200)]).grows  # 30 MiB of 1,000: less than the share


def test_what_was_measured_while_the_machine_was_busy_does_not_count():
    times, busy = [float(n) for n in range(200)], [n % 3 == 0 for n in range(200)]
    values = [n * 10.0 if is_busy else 50.0 for n, is_busy in enumerate(busy)]
    assert not judge(memory, times, values, [not is_busy for is_busy in busy]).grows
    assert not judge(memory, times, values, [False] * 200).judged


# --- the run --------------------------------------------------------------------------------------------------------


@linux
@pytest.mark.slow
async def test_a_short_run_is_flat_and_nothing_is_wrong(tmp_path, draw_from):
    found = await Soak(tmp_path, 20.0, draw_from.randrange(2**32)).run()
    print(report(found))
    assert found.wrong == []
    assert found.executions > 20
    assert found.signals > 10
    times = {watched.name for watched in WATCHED if watched.unit == "ms"}
    assert [trend.watched.says for trend in found.trends() if trend.grows and trend.watched.name not in times] == []
    assert draw(found).count("</svg>") == 7


@linux
@pytest.mark.slow
async def test_a_worker_that_leaks_is_found_out(tmp_path, draw_from):
    found = await Soak(tmp_path, 10.0, draw_from.randrange(2**32), worker=LEAKING).run()
    print(report(found))
    growing = {trend.watched.name for trend in found.trends() if trend.grows}
    assert {"worker.rss_mib", "worker.blocks", "worker.open_files"} <= growing
