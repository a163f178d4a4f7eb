"""How long a database in a bucket stands still when one machine stops in order and another one goes on."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from bench.jobs.definitions import database
from bench.replication.buckets import moto
from bench.replication.marching import filled, march
from perdure import Engine
from perdure.replication.bucket import Bucket
from perdure.replication.epochs import Epochs
from perdure.replication.replica import Replica

ROOT = Path(__file__).resolve().parents[2]
MARCHING = Path(__file__).with_name("marching.py")
SIZE = 50_000
"""Of a result; below the size from which it would be compressed."""
PATIENCE_S = 60.0


async def takeover(folder: Path, *, size_mb: int, rounds: int) -> dict[str, float]:
    """A worker without a file of its own runs a workflow. It is told to stop, another one is started when it has ended:
    from the first moment to the workflow's next step, in seconds. `stop` is the first part, until it has ended."""
    with moto() as url:
        await _fill(database(folder), url, size_mb)
        taken, stopping = [], []
        with contextlib.ExitStack() as stack:
            machine = stack.enter_context(_machine(folder, url))
            machine.first_step()
            for epoch in range(2, rounds + 2):
                await _until_complete(url, epoch)
                asked = time.monotonic()
                machine.stop()
                stopping.append(time.monotonic() - asked)
                machine = stack.enter_context(_machine(folder, url))
                taken.append(machine.first_step() - asked)
            size_bytes = sum(file.stat().st_size for file in folder.glob("perdure-*/bench.db"))
    return {
        "": statistics.median(taken),
        "max": max(taken),
        "stop": statistics.median(stopping),
        "file_mb": size_bytes / 1e6,
    }


async def _fill(path: Path, url: str, size_mb: int) -> None:
    with contextlib.redirect_stdout(sys.stderr):  # a step says there that it ran
        async with Engine(path, [filled, march], replicate=Replica(url)) as engine:
            await (await engine.start(filled, size_mb * 1_000_000 // SIZE, SIZE)).result()
            await engine.start(march, id="march", durability="replicated")


async def _until_complete(url: str, epoch: int) -> None:
    """Wait until all of the database is at a machine's own path."""
    epochs = Epochs(Bucket.open(Replica(url).target))
    async with asyncio.timeout(PATIENCE_S):
        while (current := await epochs.current()) is None or current.epoch < epoch:
            await asyncio.sleep(0.05)


class Machine:
    """A worker of its own."""

    def __init__(self, folder: Path, url: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "perdure", "worker", str(MARCHING), "--db", url],
            cwd=ROOT, env=os.environ | {"TMPDIR": str(folder)}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.said = ""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line

    def first_step(self) -> float:
        """Wait for its first step; give the instant."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the machine ended: {self.said}")
        threading.Thread(target=self.process.stdout.read, daemon=True).start()
        return float(line)

    def stop(self) -> None:
        """Stop it in order."""
        self.process.send_signal(signal.SIGTERM)
        if self.process.wait(PATIENCE_S):
            raise RuntimeError(f"the machine did not stop in order: {self.said}")


@contextlib.contextmanager
def _machine(folder: Path, url: str) -> Iterator[Machine]:
    made = Machine(folder, url)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.wait()
