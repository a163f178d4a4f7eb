"""A workflow without async: plain `def` functions, plain calls, and a program that does not know asyncio at all.

    python examples/def_workflow.py                 # about three seconds

A nightly import: three files are fetched at the same time, cleaned one after the other, then loaded. A call of an
activity blocks only this workflow, and a sleeping one holds no thread. Kill it (`kill -9`, Ctrl-C) and run it again:
what was fetched is not fetched again. State: `def_workflow.db`, or the path that you name; delete it to begin anew.
"""

from __future__ import annotations

import sys
import time

from perdure import Engine, activity, now, sleep, state, workflow
from perdure.blocking import Blocking

SOURCES = ["customers", "orders", "returns"]


def say(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # one write, so that lines of several threads do not mix


@activity
def fetch(source: str) -> list[int]:
    time.sleep(0.5)  # in an activity that is fine: it has a thread of its own
    say(f"fetched {source}")
    return [len(source) * n for n in range(5)]


@activity
def clean(source: str, rows: list[int]) -> list[int]:
    time.sleep(0.2)
    say(f"cleaned {source}")
    return [row for row in rows if row % 2 == 0]


@activity
def load(rows: list[int]) -> int:
    say(f"loaded {len(rows)} rows")
    return sum(rows)


@workflow
def nightly_import(sources: list[str]) -> str:
    began = now()  # not datetime.now(): this is the same after a crash
    calls = [fetch.submit(source) for source in sources]  # all at the same time
    rows = []
    for source, call in zip(sources, calls, strict=True):
        rows += clean(source, call.result())  # one after the other
        state["cleaned"] = source
    sleep(1)  # durable; not time.sleep()
    total = load(rows)
    return f"{total} in {len(sources)} sources, {(now() - began).total_seconds():.0f} s"


def main(database: str) -> None:
    with Blocking(Engine(database, workflows=[nightly_import])) as engine:
        execution = engine.start(nightly_import, SOURCES, id="nightly")
        say(f"ended with {execution.result()}")


if __name__ == "__main__":
    try:
        main(sys.argv[1] if len(sys.argv) > 1 else "def_workflow.db")
    except KeyboardInterrupt:
        say("stopped; run it again and it goes on")
