"""`python -m bench.soak --minutes 30`: run it, say what came out, and exit with 1 when something grew or went wrong."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from bench.machine import facts
from bench.soak.picture import draw
from bench.soak.run import Found, Soak
from bench.soak.trend import Trend

MACHINE = ("CPUs", "system", "file system", "Python", "perdure")
RECORDED = Path(__file__).with_name("recorded.json")
PLOT = Path(__file__).resolve().parents[2] / "docs" / "images" / "soak.svg"


def main() -> int:
    options = _options()
    if sys.platform != "linux":
        print("the long run reads /proc, which only Linux has", file=sys.stderr)
        return 2
    print(f"seed {options.seed}, {options.minutes:g} minutes", flush=True)
    with tempfile.TemporaryDirectory(prefix="perdure-soak-", dir=options.dir, ignore_cleanup_errors=True) as folder:
        found = asyncio.run(Soak(Path(folder), options.minutes * 60, options.seed).run())
        machine = {name: fact for name, fact in facts(Path(folder)).items() if name in MACHINE}
    if options.record or options.json:
        (RECORDED if options.record else options.json).write_text(_as_json(found, machine))
    if options.record or options.svg:
        (PLOT if options.record else options.svg).write_text(draw(found))
    print(report(found))
    return 0 if found.well else 1


def report(found: Found) -> str:
    """Say what came out, one line for each thing that was watched."""
    lines = [f"{'':52} {'median':>12} {'low':>12} {'high':>12} {'trend over the run':>24}"]
    lines += [_line(trend) for trend in found.trends()]
    lines += [f"WRONG {line}" for line in found.wrong[:20]]
    lines.append(
        f"seed {found.seed}: {found.executions:,} executions and {found.signals:,} signals to one of them "
        f"in {found.seconds / 60:g} minutes; {len(found.wrong)} wrong, "
        f"{sum(trend.grows for trend in found.trends())} of {len(found.trends())} lines grow "
        f"(other programs kept {found.others_cpus:.1f} CPUs busy)"
    )
    return "\n".join(lines)


def _line(trend: Trend) -> str:
    watched = trend.watched
    share = trend.rise / trend.level if trend.level else 0.0
    verdict = "GROWS" if trend.grows else "flat" if trend.judged else "not judged: the machine was busy"
    return (
        f"{f'{watched.says}, {watched.unit}':52} {trend.level:12,.1f} {trend.low:12,.1f} {trend.high:12,.1f} "
        f"{trend.rise:+14,.2f} {share:+8.1%} {verdict}"
    )


def _as_json(found: Found, machine: dict[str, str]) -> str:
    """Give everything as JSON, one line for each series so that a person can still read it."""
    plain = asdict(found)
    times, samples = plain.pop("times_s"), plain.pop("samples")
    head = json.dumps({**plain, "machine": machine}, indent=1)[:-2]
    series = ",\n".join(f"  {json.dumps(name)}: {json.dumps(values)}" for name, values in samples.items())
    return f'{head},\n "times_s": {json.dumps(times)},\n "samples": {{\n{series}\n }}\n}}\n'


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    parser.add_argument("--dir", type=Path, help="where the database lies meanwhile")
    parser.add_argument("--json", type=Path, help="write the samples there")
    parser.add_argument("--svg", type=Path, help="draw the lines there")
    parser.add_argument("--record", action="store_true", help=f"write {RECORDED.name} and {PLOT.name} here")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
