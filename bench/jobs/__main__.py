"""Run one job and print {"values": {figure: value}}: `python -m bench.jobs NAME key=value… --dir DIR`."""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from bench.jobs import latency, long, profile, sleepers, standing, starting, throughput

JOBS: dict[str, Callable[..., Coroutine[Any, Any, dict[str, float]]]] = {
    "seq": throughput.seq,
    "conc": throughput.conc,
    "sync_def": throughput.sync_def,
    "workflows": throughput.workflows,
    "children": throughput.children,
    "payload": throughput.payload,
    "start_result": latency.start_result,
    "cross": latency.cross,
    "idle": standing.idle,
    "signals": standing.signals,
    "def_threads": standing.def_threads,
    "long": long.long,
    "sleepers": sleepers.sleepers,
    "cold": starting.cold,
    "import": starting.importing,
    "profile": profile.profile,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.jobs", description=__doc__)
    parser.add_argument("job", choices=JOBS)
    parser.add_argument("options", nargs="*", metavar="key=value")
    parser.add_argument("--dir", type=Path, required=True, help="an empty folder for the database")
    options = parser.parse_args()
    pairs = (pair.split("=", 1) for pair in options.options)
    arguments = {key: int(value) if value.isdigit() else value for key, value in pairs}
    print(json.dumps({"values": asyncio.run(JOBS[options.job](options.dir, **arguments))}))


if __name__ == "__main__":
    main()
