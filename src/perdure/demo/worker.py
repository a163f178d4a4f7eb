"""The process that is killed: an engine that runs the job to its end.

Starting it again is starting it the first time: an execution is started once per id, and the engine goes on with
whatever the file says is under way.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import msgspec

from perdure.demo.index import EXECUTION_ID, STARTED, Job, index_library, index_package
from perdure.engine.engine import Engine


async def work(database: Path, job: Job) -> None:
    async with Engine(database, workflows=[index_library, index_package]) as engine:
        execution = await engine.start(index_library, job, id=EXECUTION_ID)
        sys.stdout.write(f"{STARTED}\n")
        sys.stdout.flush()
        await execution.result()


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), msgspec.json.decode(sys.argv[2], type=Job)))
