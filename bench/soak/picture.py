"""The lines of a run as one picture: a small plot for each thing that is watched."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from bench.plots import HEIGHT, WIDTH, Axis, Line, Plot, steps
from bench.soak.run import Found

COLUMNS = 2
MOST_POINTS = 180
SCALE = 0.75


@dataclass(frozen=True)
class Panel:
    """One small plot: lines of the same unit, (name, key of the samples)."""

    title: str
    unit: str
    lines: Sequence[tuple[str, str]]


PANELS = (
    Panel("Memory", "MiB", (("worker", "worker.rss_mib"), ("asking process", "asker.rss_mib"))),
    Panel("Python objects", "thousand blocks", (("worker", "worker.blocks"), ("asking process", "asker.blocks"))),
    Panel("Files", "MiB", (("database", "file_mib"), ("WAL", "wal_mib"))),
    Panel("Open files and threads", "", (("open files", "worker.open_files"), ("threads", "worker.threads"))),
    Panel("Start to result, median", "ms", (("in the worker", "worker.start_result_ms"),
                                            ("from the other process", "asker.start_result_ms"))),
    Panel("CPU time per execution; late loop", "ms", (("CPU time", "worker.cpu_ms"),
                                                      ("event loop late", "worker.lag_ms"))),
)  # fmt: skip


def draw(found: Found) -> str:
    """Give the picture as an SVG document."""
    rows = math.ceil(len(PANELS) / COLUMNS)
    width, height = WIDTH * SCALE, HEIGHT * SCALE
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {COLUMNS * width:g} {rows * height:g}" role="img">',
        f"<title>{found.seconds / 60:g} minutes of mixed load</title>",
    ]
    for number, panel in enumerate(PANELS):
        row, column = divmod(number, COLUMNS)
        place = f'<svg x="{column * width:g}" y="{row * height:g}" width="{width:g}" height="{height:g}"'
        parts.append(_plot(panel, found).svg().replace("<svg", place, 1).rstrip())
    return "\n".join([*parts, "</svg>"]) + "\n"


def _plot(panel: Panel, found: Found) -> Plot:
    scale = 1e-3 if panel.unit.startswith("thousand") else 1.0
    lines = [Line(name, _points(found, key, scale), marked=False) for name, key in panel.lines]
    highest = max(value for line in lines for _, value in line.points)
    return Plot(panel.title, Axis("minutes", _ticks(found.seconds / 60)), Axis(panel.unit, _ticks(highest)), lines)


def _points(found: Found, key: str, scale: float) -> list[tuple[float, float]]:
    """Give the medians of so few groups of samples that single ones do not hide the line."""
    values, times = found.samples[key], found.times_s
    size = max(1, math.ceil(len(values) / MOST_POINTS))
    groups = [range(first, min(first + size, len(values))) for first in range(0, len(values), size)]
    return [(times[group[0]] / 60, sorted(values[i] * scale for i in group)[len(group) // 2]) for group in groups]


def _ticks(highest: float) -> list[tuple[float, str]]:
    """Give 4 to 10 ticks from 0 to above `highest`."""
    rough = max(highest, 1e-6) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(digit * power for digit in (1, 2, 5, 10) if digit * power >= rough)
    return steps(highest, step)
