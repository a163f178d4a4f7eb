"""`python -m bench`: run the benchmark and print a table, or with `--json` one JSON object."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from bench import record
from bench.figures import FIGURES
from bench.machine import IN_MEMORY, file_system
from bench.run import Bench, say
from bench.table import as_json, print_changes, print_table


def main() -> int:
    """Run, print, and return 0 if every figure could be measured; with `--check`, if nothing got worse."""
    options = _options()
    created = not options.dir.exists()
    options.dir.mkdir(parents=True, exist_ok=True)
    if (kind := file_system(options.dir)) in IN_MEMORY:
        say(f"warning: {options.dir} is on {kind}, in memory: no disk is measured. Name another folder with --dir.")
    try:
        return _run(options, options.dir.resolve())
    finally:
        if created and not any(options.dir.iterdir()):
            options.dir.rmdir()


def _run(options: argparse.Namespace, folder: Path) -> int:
    if options.record:
        return record.record(folder, options.record, options.only)
    if options.check:
        return print_changes(record.check(folder, options.only))
    bench = Bench(folder, quick=options.quick)
    outcomes = bench.run(options.only)
    if options.json:
        print(json.dumps({outcome.figure.id: as_json(outcome) for outcome in outcomes}))
    else:
        print_table(outcomes, bench)
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
    parser.add_argument("--check", action="store_true", help="compare with what is recorded in bench/recorded.json")
    parser.add_argument("--record", type=int, metavar="RUNS", help="run it all so often and write recorded.json")
    options = parser.parse_args()
    if unknown := [id for id in options.only if id not in known]:
        parser.error(f"no figure {', '.join(unknown)}; there are {', '.join(known)}")
    return options


if __name__ == "__main__":
    sys.exit(main())
