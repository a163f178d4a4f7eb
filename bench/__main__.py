"""`python -m bench`: run the benchmark and print a table, or with `--json` one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from bench.figures import FIGURES
from bench.machine import IN_MEMORY, facts, file_system
from bench.run import Bench, Outcome, say

PIPED_WIDTH = 120
"""Columns of the table when it goes to a file."""


def main() -> int:
    """Run, print, and return 0 if every figure could be measured; whether its bar was met is in the output."""
    options = _options()
    created = not options.dir.exists()
    options.dir.mkdir(parents=True, exist_ok=True)
    if (kind := file_system(options.dir)) in IN_MEMORY:
        say(f"warning: {options.dir} is on {kind}, in memory: no disk is measured. Name another folder with --dir.")
    bench = Bench(options.dir.resolve(), quick=options.quick)
    try:
        outcomes = bench.run(options.only)
    finally:
        if created and not any(options.dir.iterdir()):
            options.dir.rmdir()
    if options.json:
        print(json.dumps({outcome.figure.id: _as_json(outcome) for outcome in outcomes}))
    else:
        _print_table(outcomes, bench)
    return 1 if bench.errors else 0


def _options() -> argparse.Namespace:
    known = [figure.id for figure in FIGURES]
    parser = argparse.ArgumentParser(prog="python -m bench", description="Measure the speed of perdure.")
    parser.add_argument("--json", action="store_true", help="print one JSON object, by figure")
    parser.add_argument("--only", type=lambda ids: ids.split(","), default=known, help=f"some of {','.join(known)}")
    parser.add_argument("--dir", type=Path, default=Path(".bench"), help="where databases are made (default: .bench)")
    parser.add_argument(
        "--quick", action="store_true", help="smaller jobs, run once: a first look, not a figure to quote"
    )
    options = parser.parse_args()
    if unknown := [id for id in options.only if id not in known]:
        parser.error(f"no figure {', '.join(unknown)}; there are {', '.join(known)}")
    return options


def _as_json(outcome: Outcome) -> dict[str, object]:
    figure = outcome.figure
    entry: dict[str, object] = {
        "value": None if outcome.value is None else float(f"{outcome.value:.5g}"),
        "unit": figure.unit,
        "bar": figure.bar and figure.bar.limit,
        "ok": outcome.ok,
    }
    return entry | {"error": outcome.error} if outcome.error else entry


def _print_table(outcomes: list[Outcome], bench: Bench) -> None:
    table = Table(title="perdure benchmark" + (" (quick: not figures to quote)" if bench.quick else ""))
    table.add_column("figure", no_wrap=True)
    table.add_column("what it says")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("bar", justify="right", no_wrap=True)
    table.add_column("", no_wrap=True)
    for outcome in outcomes:
        table.add_row(outcome.figure.id, _explanation(outcome, bench), _value(outcome), *_verdict(outcome))
    console = Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
    console.print(table)
    for name, fact in facts(bench.folder).items():
        console.print(f"{name:>12}: {fact}", highlight=False, soft_wrap=True)


def _explanation(outcome: Outcome, bench: Bench) -> str:
    """What the figure says and, for a ratio, the rates behind it."""
    if outcome.error:
        return f"{outcome.figure.says}\n[red]{escape(outcome.error)}[/red]"
    if len(outcome.figure.needs) < 2:
        return outcome.figure.says
    rates = ", ".join(f"{name} {bench.medians[name]:,.0f}/s" for name in outcome.figure.needs)
    return f"{outcome.figure.says}\n[dim]{rates}[/dim]"


def _value(outcome: Outcome) -> str:
    if outcome.value is None:
        return "-"
    digits = 0 if outcome.value >= 100 else 2
    return f"{outcome.value:,.{digits}f} {outcome.figure.unit}"


def _verdict(outcome: Outcome) -> tuple[str, str]:
    if outcome.figure.bar is None:
        return "", ""
    if outcome.value is None:
        return str(outcome.figure.bar), "[red]failed[/red]"
    return str(outcome.figure.bar), "[green]met[/green]" if outcome.ok else "[red]missed[/red]"


if __name__ == "__main__":
    sys.exit(main())
