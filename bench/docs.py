"""`python -m bench.docs`: bring the tables and plots of docs/performance.md up to date with recorded.json.

What stands between `<!-- bench: NAME -->` and `<!-- bench: end -->` is made here; the rest of the page is written by
people and may not quote figures that a new record would change.
"""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from bench.figures import FIGURES, Figure
from bench.latencies import latency_plot, latency_table
from bench.measurements import CONCURRENCY, PAYLOADS, PROFILED
from bench.plots import Axis, Line, Plot, decades, steps
from bench.record import load
from bench.run import say

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE = DOCS / "performance.md"
BLOCK = re.compile(r"(<!-- bench: (?!end)(\w+) -->\n).*?(<!-- bench: end -->)", re.DOTALL)

Recorded = dict[str, Any]
Row = tuple[str, ...]


def main() -> None:
    recorded = load()
    made = BLOCK.sub(lambda found: f"{found[1]}\n{TABLES[found[2]](recorded)}\n\n{found[3]}", PAGE.read_text())
    PAGE.write_text(made)
    for name, plot in PLOTS.items():
        (DOCS / "images" / f"{name}.svg").write_text(plot(recorded).svg())
    say(f"wrote {PAGE.name} and {', '.join(f'{name}.svg' for name in PLOTS)}")


def table(head: Row, rows: Sequence[Row]) -> str:
    """Make a table; all columns but the first are numbers."""
    lines = [head, ("---", *("---:" for _ in head[1:])), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


# --- tables ---------------------------------------------------------------------------------------------------------


def _machine(recorded: Recorded) -> str:
    facts = [f"- {name}: {fact}" for name, fact in recorded["machine"].items()]
    runs = f"{recorded['runs']} whole runs" if recorded["runs"] > 1 else "one whole run"
    busy = " **Provisional**: the machine had other work at the time." if recorded["busy"] else ""
    return "\n".join([f"Recorded on {recorded['recorded_on']}: medians of {runs}.{busy}", "", *facts])


def _figures(recorded: Recorded) -> str:
    rows = []
    for figure in FIGURES:
        values = recorded["figures"].get(figure.id)
        rows.append((f"`{figure.id}`", figure.says, *_cells(figure, values, recorded["not_run"].get(figure.id, ""))))
    lines = [
        "| figure | what it says | value | lowest to highest | bar | |",
        "| --- | --- | ---: | ---: | ---: | --- |",
    ]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _cells(figure: Figure, values: list[float] | None, not_run: str) -> Row:
    bar = str(figure.bar).replace(">=", "≥").replace("<=", "≤") if figure.bar else ""
    if not values:
        return f"not run: {not_run}" if not_run else "not measured", "", bar, ""
    middle = statistics.median(values)
    spread = (
        f"{min(values):,.3g} to {max(values):,.3g}" if middle < 1e3 else f"{min(values):,.0f} to {max(values):,.0f}"
    )
    shown = f"{middle:,.3g}" if middle < 1e3 else f"{middle:,.0f}"
    verdict = "" if figure.bar is None else "met" if figure.bar.met_by(middle) else "**missed**"
    return f"{shown} {figure.unit}", spread if len(values) > 1 else "", bar, verdict


def _rates(recorded: Recorded) -> str:
    medians = recorded["medians"]
    systems = {"perdure": ("seq", "conc"), "perdure, `normal`": ("seq_normal", "conc_normal")}
    systems |= {"DBOS": ("dbos.seq", "dbos.conc"), "Restate": ("restate.seq", "restate.conc")}
    rows = [
        (name, *(f"{medians[key]:,.0f}" if key in medians else "not run" for key in keys))
        for name, keys in systems.items()
    ]
    rows.append(("raw commits (R)", f"{medians['raw']:,.0f}", ""))
    return table(("steps/s", "one workflow", "many at once"), rows)


def _profile(recorded: Recorded) -> str:
    """Make a column for each job; the sync is what a commit takes longer with `full` than with `normal`."""
    columns = [_parts(recorded["medians"], job) for job in PROFILED]
    names = ("a step of one workflow", "a step of 1,000 at once", "start to result", "a workflow of 5,000", "a child")
    rows = [(part, *(f"{column[part]:,.0f}" for column in columns)) for part in columns[0]]
    return table(("µs", *names), rows)


def _parts(medians: dict[str, float], job: str) -> dict[str, float]:
    full = {part: medians[f"profile.{job}.full:{part}"] for part in ("outside", "runner", "code", "codec", "commit")}
    sql = min(medians[f"profile.{job}.normal:commit"], full["commit"])
    return {
        "workflow code and its event loop": full["code"],
        "values to JSON and back, with checks": full["codec"],
        "the runner: inputs, commands, effects": full["runner"],
        "asyncio, the activity, the client": full["outside"],
        "SQL": sql,
        "sync": full["commit"] - sql,
        "**all**": sum(full.values()),
    }


def _concurrency(recorded: Recorded) -> str:
    medians = recorded["medians"]
    rows = [
        (f"{number:,}", *(_rate(medians, f"curve.{mode}.{number}") for mode in ("full", "normal")))
        for number in CONCURRENCY
    ]
    return table(("workflows at once", "`full`, steps/s", "`normal`, steps/s"), rows)


def _payload(recorded: Recorded) -> str:
    rows = []
    for size in PAYLOADS:
        rate = recorded["medians"].get(f"curve.payload.{size}")
        cells = ("-", "-") if rate is None else (f"{rate:,.0f}", f"{1e6 / rate:,.0f}")
        rows.append((f"{size:,}", *cells))
    return table(("characters in and out", "steps/s", "µs a step"), rows)


def _growth(recorded: Recorded) -> str:
    medians = recorded["medians"]
    window = [medians[f"long:window{tenth}"] for tenth in (0, 4, 9)]
    rows = [
        ("a new file, first 10,000 steps of a history", f"{window[0]:,.0f}"),
        ("after 40,000 steps", f"{window[1]:,.0f}"),
        ("after 90,000 steps", f"{window[2]:,.0f}"),
        (f"in a file of 1,000,000 sleeping executions, {medians['sleepers:file_mb']:,.0f} MiB",
         f"{1e6 / medians['sleepers:steps_s']:,.0f}"),
    ]  # fmt: skip
    return table(("one step of one workflow", "µs"), rows)


def _rate(medians: dict[str, float], key: str) -> str:
    return f"{medians[key]:,.0f}" if key in medians else "-"


TABLES: dict[str, Callable[[Recorded], str]] = {
    "machine": _machine,
    "figures": _figures,
    "rates": _rates,
    "profile": _profile,
    "concurrency": _concurrency,
    "latency": latency_table,
    "payload": _payload,
    "growth": _growth,
}


# --- plots ----------------------------------------------------------------------------------------------------------


def _throughput_plot(recorded: Recorded) -> Plot:
    medians = recorded["medians"]
    lines = [
        Line(f"perdure, {mode}", [(n, medians[f"curve.{mode}.{n}"]) for n in CONCURRENCY])
        for mode in ("normal", "full")
    ]
    ends = [min(CONCURRENCY), max(CONCURRENCY)]
    lines.append(Line("raw commits (R)", [(n, medians["raw"]) for n in ends], dashed=True))
    if "restate.conc" in medians:
        lines.append(Line("Restate", [(1, medians["restate.seq"]), (1000, medians["restate.conc"])]))
    lines.append(Line("DBOS", [(1, medians["dbos.seq"]), (100, medians["dbos.conc"])]))
    values = [value for line in lines for _, value in line.points]
    x = Axis("workflows at once", [(n, f"{n:,}") for n in CONCURRENCY], logarithmic=True)
    y = Axis("steps/s", decades(min(values), max(values)), logarithmic=True)
    return Plot("Steps per second by workflows at once", x, y, lines)


def _history_plot(recorded: Recorded) -> Plot:
    points = [(tenth * 10 + 5, recorded["medians"][f"long:window{tenth}"]) for tenth in range(10)]
    x = Axis("steps so far, thousands", steps(100, 10))
    y = Axis("µs a step", steps(max(value for _, value in points) * 1.2, 50))
    return Plot("What a step costs as the history grows", x, y, [Line("one workflow", points)])


PLOTS: dict[str, Callable[[Recorded], Plot]] = {
    "throughput": _throughput_plot,
    "latency": latency_plot,
    "history": _history_plot,
}

if __name__ == "__main__":
    main()
