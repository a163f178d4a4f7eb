"""Showing outcomes: a table for people, an object for programs."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.machine import facts
from bench.record import Change
from bench.run import Bench, Outcome

PIPED_WIDTH = 120
"""Columns of the table when it goes to a file."""


def as_json(outcome: Outcome) -> dict[str, object]:
    """Give the object of one figure."""
    figure = outcome.figure
    entry: dict[str, object] = {
        "value": None if outcome.value is None else float(f"{outcome.value:.5g}"),
        "unit": figure.unit,
        "bar": figure.bar and figure.bar.limit,
        "ok": outcome.ok,
    }
    if outcome.not_run:
        return entry | {"not_run": outcome.not_run}
    return entry | {"error": outcome.error} if outcome.error else entry


def print_table(outcomes: list[Outcome], bench: Bench) -> None:
    """Print what every figure says, its value and whether it meets its bar; then what machine this is."""
    table = _table("perdure benchmark" + (" (quick: not figures to quote)" if bench.quick else ""), "bar")
    for outcome in outcomes:
        table.add_row(outcome.figure.id, _explanation(outcome, bench), _value(outcome), *_verdict(outcome))
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(table)
    for name, fact in facts(bench.folder).items():
        console.print(f"{name:>12}: {fact}", highlight=False, soft_wrap=True)


def print_changes(changes: list[Change]) -> int:
    """Print how figures compare with the recorded ones; give 1 if one got worse by more than noise, else 0."""
    table = _table("compared with bench/recorded.json", "recorded")
    styles = {"worse": "red", "better": "green", "not measured": "yellow"}
    for change in changes:
        verdict = f"[{styles[change.verdict]}]{change.verdict}[/]" if change.verdict in styles else change.verdict
        recorded = f"{change.recorded:,.4g} ± {change.noise:.0%}"
        shown = "-" if change.value is None else f"{change.value:,.4g} {change.figure.unit}"
        table.add_row(change.figure.id, change.figure.says, shown, recorded, verdict)
    Console(width=None if sys.stdout.isatty() else PIPED_WIDTH).print(table)
    worse = [change.figure.id for change in changes if change.verdict == "worse"]
    print(f"worse by more than noise: {', '.join(worse)}" if worse else "nothing got worse by more than noise")
    return 1 if worse else 0


def _table(title: str, limit: str) -> Table:
    table = Table(title=title)
    table.add_column("figure", no_wrap=True)
    table.add_column("what it says")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column(limit, justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    return table


def _explanation(outcome: Outcome, bench: Bench) -> str:
    """What the figure says and, for a ratio of rates, the rates behind it."""
    figure = outcome.figure
    if outcome.error:
        return f"{figure.says}\n[red]{escape(outcome.error)}[/red]"
    if outcome.not_run:
        return f"{figure.says}\n[yellow]not run: {escape(outcome.not_run)}[/yellow]"
    if len(figure.needs) < 2 or not figure.more_is_better:
        return figure.says
    rates = ", ".join(f"{name} {bench.results.median(name):,.0f}/s" for name in figure.needs)
    return f"{figure.says}\n[dim]{rates}[/dim]"


def _value(outcome: Outcome) -> str:
    if outcome.value is None:
        return "-"
    digits = 0 if outcome.value >= 100 or outcome.figure.unit == "threads" else 2
    return f"{outcome.value:,.{digits}f} {outcome.figure.unit}"


def _verdict(outcome: Outcome) -> tuple[str, str]:
    bar = str(outcome.figure.bar or "")
    if outcome.ok is None:
        return bar, "[yellow]not run[/yellow]"
    if outcome.value is None:
        return bar, "[red]failed[/red]"
    if not bar:
        return "", ""
    return bar, "[green]met[/green]" if outcome.ok else "[red]missed[/red]"
