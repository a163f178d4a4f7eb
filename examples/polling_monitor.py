"""A polling monitor that runs for as long as it is needed with a history that stays short: `continue_as_new`.

    python examples/polling_monitor.py              # about four seconds

It looks at a service (here: a file with a word in it, which a small play changes) every 0.1 s and reports changes.
Each run of the workflow looks ten times and then continues as a new run with the same id and an empty history, so
after a year its replay is as quick as on the first day. Kill it (`kill -9`, Ctrl-C) and run it again: it still knows
what it saw last. State: `polling_monitor.db` and `polling_monitor.status`, or beside the path that you name; delete
both to begin anew.
"""

from __future__ import annotations

import argparse
import asyncio
from pathlib import Path

from perdure import Engine, activity, continue_as_new, state, workflow

LOOKS_PER_RUN = 10
EVERY_S = 0.1
PLAY = ["starting", "up", "down", "up", "gone"]


def say(line: str) -> None:
    print(f"{line}\n", end="", flush=True)  # one write, so that lines of several threads do not mix


@activity(timeout_s=5)
def look(path: str) -> str:
    """Ask the service how it is; a real one over the network, with the same retries and time limit."""
    return Path(path).read_text(encoding="utf-8").strip()


@activity
async def report(before: str | None, after: str) -> None:
    say(f"monitor: {before or 'nothing'} -> {after}")


@workflow
async def monitor(path: str, seen: str | None = None, looks: int = 0) -> int:
    """Watch until the service is gone; give how often it looked. `seen` and `looks` come from the run before."""
    for _ in range(LOOKS_PER_RUN):
        status = await look.submit(path)
        looks += 1
        if status != seen:
            await report(seen, status)
            seen = state["status"] = status
        if status == "gone":
            return looks
        await asyncio.sleep(EVERY_S)
    return continue_as_new(path, seen, looks)  # it does not return: what follows is the next run


async def play(status: Path, scene_s: float) -> None:
    """Be the service: go on from where the file says, so that a restart does not begin the play again."""
    here = PLAY.index(status.read_text(encoding="utf-8").strip())
    for word in PLAY[here + 1 :]:
        await asyncio.sleep(scene_s)
        fresh = status.with_suffix(".new")
        fresh.write_text(word, encoding="utf-8")
        fresh.replace(status)  # at once: nobody reads half a word


async def main(database: Path, scene_s: float) -> None:
    status = database.with_suffix(".status")
    async with Engine(database, workflows=[monitor]) as engine:
        execution = await engine.start(monitor, str(status), id="monitor")
        service = asyncio.create_task(play(status, scene_s))
        say(f"monitor: the service is gone after {await execution.result()} looks")
        await service
        info = await execution.info()
        say(f"monitor: this was run {info.run}, with {info.events} events")


def prepare(status: Path) -> None:
    """Begin the play, if it is not under way."""
    if not status.exists():
        status.parent.mkdir(parents=True, exist_ok=True)
        status.write_text(PLAY[0], encoding="utf-8")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A polling monitor with continue_as_new.")
    parser.add_argument("database", nargs="?", default="polling_monitor.db", type=Path)
    parser.add_argument("--scene", type=float, default=0.9, help="seconds between changes of the service")
    options = parser.parse_args()
    prepare(options.database.with_suffix(".status"))
    try:
        asyncio.run(main(options.database, options.scene))
    except KeyboardInterrupt:
        say("stopped; run it again and it goes on")
