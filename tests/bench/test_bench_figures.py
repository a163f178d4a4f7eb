"""What the benchmark says about what it measured. Nothing is measured here."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from bench.figures import FIGURES, Bar
from bench.measurements import curves, measurements
from bench.plots import Axis, Line, Plot, decades, steps
from bench.record import change_of
from bench.results import Results
from bench.run import Outcome

PROMISED = """seq_ratio conc_ratio conc_vs_dbos seq_vs_dbos conc_vs_restate seq_vs_restate workflows_s_ratio
    start_result_p50_commits start_result_p99_ms cross_p50_ms idle_cpu_pct flat_100k replay_events_s sleepers_start_s
    sleepers_rss_mb timer_p99_ms def_threads cold_ms import_ms bytes_per_step signal_ratio children_ratio
    sync_def_ratio tenant_idle_kb repl_overhead repl_lag_p99_ms barrier_p50_ms barrier_conc_steps_s
    takeover_s""".split()


def _figure(id: str):
    return next(figure for figure in FIGURES if figure.id == id)


def test_every_promised_figure_has_a_bar():
    bars = {figure.id for figure in FIGURES if figure.bar is not None}
    assert bars == set(PROMISED)


@pytest.mark.parametrize("quick", [False, True])
def test_every_figure_is_made_of_measurements_that_are_there(quick):
    names = {"raw", *(measurement.name for measurement in measurements(quick=quick))}
    assert {need for figure in FIGURES for need in figure.needs} <= names


def test_no_two_measurements_have_one_name():
    names = [measurement.name for measurement in (*measurements(quick=False), *curves())]
    assert len(names) == len(set(names))


def test_a_rate_is_divided_by_the_r_beside_it():
    results = Results()
    for rate, r in ((100.0, 100.0), (30.0, 10.0), (20.0, 10.0)):
        results.add("seq", {"": rate}, r)
    assert results.over_r("seq") == 2.0


def test_a_latency_is_given_in_raw_commits():
    results = Results()
    results.add("start_result", {"p50": 2.0}, 5_000.0)
    assert results.in_commits("start_result:p50") == 10.0


def test_bars_include_their_limit():
    assert Bar(">=", 4).met_by(4.0)
    assert Bar("<=", 0).met_by(0.0)
    assert not Bar("<=", 1.15).met_by(1.16)


@pytest.mark.parametrize(
    ("value", "recorded", "verdict"),
    [
        (0.95, [1.0, 1.0, 1.0], "same"),  # within what no figure is held to
        (0.85, [1.0, 1.0, 1.0], "worse"),
        (0.85, [0.9, 1.0, 1.1], "same"),  # the recorded runs were this far apart themselves
        (1.40, [0.9, 1.0, 1.1], "better"),
        (None, [1.0], "not measured"),
    ],
)
def test_a_change_counts_when_it_is_more_than_noise(value, recorded, verdict):
    assert change_of(Outcome(_figure("seq_ratio"), value), recorded).verdict == verdict


def test_less_is_better_where_it_is():
    assert change_of(Outcome(_figure("import_ms"), 150.0), [90.0, 90.0]).verdict == "worse"
    assert change_of(Outcome(_figure("import_ms"), 60.0), [90.0, 90.0]).verdict == "better"


def test_a_difference_below_the_grain_is_none():
    assert change_of(Outcome(_figure("idle_cpu_pct"), 0.3), [0.1, 0.1]).verdict == "same"


def test_what_could_not_run_is_neither_met_nor_missed():
    assert Outcome(_figure("conc_vs_restate"), None, not_run="no npm here").ok is None
    assert Outcome(_figure("conc_vs_restate"), None, error="it failed").ok is False


def test_a_plot_is_a_drawing_with_every_line_in_it():
    lines = [Line("one & two", [(1, 10.0), (1000, 2_000.0)]), Line("three", [(1, 5.0), (1000, 5.0)], dashed=True)]
    plot = Plot("A <plot>", Axis("x", steps(1000, 500)), Axis("y", decades(5, 2_000), logarithmic=True), lines)
    root = ElementTree.fromstring(plot.svg())
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"A <plot>", "one & two", "three", "x", "y", "5", "2,000", "1,000"} <= set(texts)
