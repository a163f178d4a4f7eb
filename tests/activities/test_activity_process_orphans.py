"""Processes of `executor="process"` do not outlive the engine's process."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

WORKER = """
    import asyncio
    import sys
    import threading

    from perdure import Engine, activity, workflow


    @activity(executor="process")
    def hang() -> None:
        print("hanging", flush=True)
        threading.Event().wait()


    @workflow
    async def stuck() -> None:
        await hang.submit()


    async def main() -> None:
        async with Engine(sys.argv[1], workflows=[stuck]) as engine:
            await (await engine.start(stuck)).result()


    if __name__ == "__main__":
        asyncio.run(main())
"""


def test_kill_9_of_the_engine_ends_its_activity_processes(
    spawn: Callable[..., subprocess.Popen[str]], database: Path
) -> None:
    worker = spawn(WORKER, database)
    assert worker.stdout is not None
    assert worker.stdout.readline() == "hanging\n"
    worker.kill()
    # the activity's process has the same standard output: that ends when the last process that holds it is gone
    rest, _ = worker.communicate(timeout=20)
    assert rest == ""
