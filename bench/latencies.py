"""The distribution of latencies, as a table and as a plot."""

from __future__ import annotations

from typing import Any

from bench.plots import Axis, Line, Plot, decades

WAYS = {"start_result": "from the engine's process", "cross": "from a second process"}
SHOWN = ("p1", "p10", "p25", "p50", "p75", "p90", "p95", "p99", "p99.9")
IN_TABLE = ("p50", "p90", "p99", "p99.9")


def latency_table(recorded: dict[str, Any]) -> str:
    """Make the table of start to result of a one-step workflow."""
    medians = recorded["medians"]
    head = f"| milliseconds | {' | '.join(IN_TABLE)} |\n| --- | {' | '.join('---:' for _ in IN_TABLE)} |"
    rows = []
    for key, name in WAYS.items():
        cells = [f"{medians[f'{key}:{share}']:,.2f}" for share in IN_TABLE]
        rows.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([head, *rows])


def latency_plot(recorded: dict[str, Any]) -> Plot:
    """Plot it; percentiles at equal distances, so that the slow ones can be seen."""
    medians = recorded["medians"]
    lines = [
        Line(name, [(place, medians[f"{key}:{share}"]) for place, share in enumerate(SHOWN)])
        for key, name in WAYS.items()
    ]
    values = [value for line in lines for _, value in line.points]
    x = Axis("percentile", [(place, share) for place, share in enumerate(SHOWN)])
    y = Axis("milliseconds", decades(min(values), max(values)), logarithmic=True)
    return Plot("From start to result of a one-step workflow", x, y, lines)
