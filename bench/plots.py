"""A small writer of line plots as SVG, in colours that can be read on light and on dark pages."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 720, 400
LEFT, RIGHT, TOP, BOTTOM = 76, 190, 48, 56
GREY, FAINT = "#808890", "#80889040"
COLOURS = ("#3b82d6", "#d97a2b", "#2f9e6e", "#b0509a", "#a08420")


@dataclass(frozen=True)
class Line:
    """One series; its name stands at its end. `dashed` for what is only there to be compared with; points that are
    many are not `marked`."""

    name: str
    points: Sequence[tuple[float, float]]
    dashed: bool = False
    marked: bool = True


@dataclass(frozen=True)
class Axis:
    """`ticks` are (where, what is written there); the axis goes from the first to the last of them."""

    label: str
    ticks: Sequence[tuple[float, str]]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends of the axis, from 0 to 1."""
        low, high, here = self._scaled(self.ticks[0][0]), self._scaled(self.ticks[-1][0]), self._scaled(value)
        return (here - low) / (high - low)

    def _scaled(self, value: float) -> float:
        return math.log10(value) if self.logarithmic else value


@dataclass
class Plot:
    """A plot of a few lines."""

    title: str
    x: Axis
    y: Axis
    lines: Sequence[Line]
    _parts: list[str] = field(default_factory=list)

    def svg(self) -> str:
        """Give the plot as an SVG document."""
        self._parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
            f' font-family="system-ui, sans-serif" font-size="13" fill="{GREY}">',
            f"<title>{escape(self.title)}</title>",
        ]
        self._text(LEFT, 24, self.title, "start", 'font-size="15" font-weight="600"')
        self._axes()
        places = self._name_places()
        for number, line in enumerate(self.lines):
            self._line(line, COLOURS[number % len(COLOURS)], places[number])
        return "\n".join([*self._parts, "</svg>"]) + "\n"

    def _place(self, x: float, y: float) -> tuple[float, float]:
        across = LEFT + self.x.share(x) * (WIDTH - LEFT - RIGHT)
        return across, HEIGHT - BOTTOM - self.y.share(y) * (HEIGHT - TOP - BOTTOM)

    def _axes(self) -> None:
        left, right = self.x.ticks[0][0], self.x.ticks[-1][0]
        for value, name in self.y.ticks:
            (x1, y), (x2, _) = self._place(left, value), self._place(right, value)
            self._parts.append(f'<path d="M{x1:.1f} {y:.1f}H{x2:.1f}" stroke="{FAINT}"/>')
            self._text(x1 - 8, y + 4, name, "end")
        for value, name in self.x.ticks:
            self._text(self._place(value, self.y.ticks[0][0])[0], HEIGHT - BOTTOM + 20, name, "middle")
        self._text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, self.x.label, "middle")
        middle = (TOP + HEIGHT - BOTTOM) / 2
        self._text(18, middle, self.y.label, "middle", f'transform="rotate(-90 18 {middle})"')

    def _name_places(self) -> list[float]:
        """Where the names at the ends of the lines stand: beside the ends, but never on each other."""
        ends = [self._place(*line.points[-1])[1] + 4 for line in self.lines]
        places = ends.copy()
        order = sorted(range(len(ends)), key=ends.__getitem__)
        for above, below in pairwise(order):
            places[below] = max(places[below], places[above] + 16)
        return places

    def _line(self, line: Line, colour: str, name_at: float) -> None:
        places = [self._place(x, y) for x, y in line.points]
        path = "L".join(f"{x:.1f} {y:.1f}" for x, y in places)
        dashes = ' stroke-dasharray="5 5"' if line.dashed else ""
        self._parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        if line.marked and not line.dashed:
            self._parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>' for x, y in places]
        self._text(places[-1][0] + 10, name_at, line.name, "start", f'style="fill:{colour}"')

    def _text(self, x: float, y: float, text: str, anchor: str, more: str = "") -> None:
        self._parts.append(f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {more}>{escape(text)}</text>')


def decades(low: float, high: float) -> list[tuple[float, str]]:
    """Give the ticks of a logarithmic axis that holds `low` and `high`: 1, 2, 5, 10… and so on."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [digit * 10.0**power for power in powers for digit in (1, 2, 5)]
    first = max(tick for tick in ticks if tick <= low)
    last = min(tick for tick in ticks if tick >= high)
    return [(tick, f"{tick:,g}") for tick in ticks if first <= tick <= last]


def steps(high: float, step: float) -> list[tuple[float, str]]:
    """Give the ticks of an axis from 0 to above `high`."""
    return [(number * step, f"{number * step:,g}") for number in range(math.ceil(high / step) + 1)]
