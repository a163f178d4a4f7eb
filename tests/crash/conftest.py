"""Workers in processes of their own, and what a second process asks of them meanwhile."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from crash_audit import Audit
from crash_workflows import BY_NAME, LAST, collect, draw_job, expected, guarded, number, relay, tick

from perdure import Client, Execution
from perdure.errors import ExecutionClosed, StaleToken

HERE = Path(__file__).parent
PATIENCE_S = 60.0


class Site:
    """One database with its ledgers, the workers on it, and everything that was acknowledged."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.seed = seed
        self.choose = random.Random(seed)
        self.database = folder / "crash.db"
        self.acks = folder / "acks"
        self.audit = Audit(self.database, folder / "ledger")
        self.workers: list[asyncio.subprocess.Process] = []
        self.spawned = 0
        self.started: dict[str, tuple[str, int]] = {}
        """Acknowledged to this process: id to workflow and size."""
        self.cancelled: list[str] = []
        self._answered = 0
        self.ticking: list[str] = []
        self.sent: dict[str, list[int]] = {}
        self.log = folder / "workers.log"

    # --- workers ----------------------------------------------------------------------------------------------------

    async def spawn(self, *options: str) -> asyncio.subprocess.Process:
        self.spawned += 1
        environment = {**os.environ, "PERDURE_CRASH_LEDGER": str(self.audit.ledger)}
        command = [HERE / "worker.py", self.database, self.acks, self.spawned, self.seed, *options]
        with self.log.open("ab") as log:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, *map(str, command), env=environment, stdout=asyncio.subprocess.PIPE, stderr=log
            )
        self.workers.append(worker)
        return worker

    async def ready(self, worker: asyncio.subprocess.Process) -> None:
        assert worker.stdout is not None
        line = await asyncio.wait_for(worker.stdout.readline(), PATIENCE_S)
        assert line == b"ready\n", f"the worker died: {self.log.read_text()[-4000:]}"

    async def kill(self, worker: asyncio.subprocess.Process) -> None:
        assert worker.returncode is None, f"the worker died by itself: {self.log.read_text()[-4000:]}"
        worker.send_signal(signal.SIGKILL)
        await worker.wait()
        self.workers.remove(worker)

    async def kill_after(self, worker: asyncio.subprocess.Process, delay_s: float) -> None:
        """Kill a worker, `delay_s` seconds from now."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(worker.wait(), delay_s)
        await self.kill(worker)

    async def kill_all(self) -> None:
        for worker in list(self.workers):
            if worker.returncode is None:
                worker.kill()
            await worker.wait()
            self.workers.remove(worker)

    # --- what this process asks for -----------------------------------------------------------------------------------

    async def start_jobs(self, client: Client, prefix: str, count: int) -> None:
        for i in range(count):
            workflow, n = draw_job(self.choose)
            id = f"{prefix}-{i}"
            await client.start(workflow, n, id=id)
            self.started[id] = (workflow.name, n)
            if self.choose.random() < 0.2:
                await self.hold(client.execution(id))

    async def hold(self, execution: Execution[Any]) -> None:
        """Pause an execution and resume it."""
        with contextlib.suppress(ExecutionClosed):
            await execution.pause("for a moment")
            await execution.resume()

    async def cancel_one(self, client: Client, id: str) -> None:
        execution = await client.start(guarded, id=id)
        await execution.cancel("enough")
        self.cancelled.append(id)

    async def answer(self, client: Client) -> None:
        """Give every activity that waits for the outside its answer."""
        tokens = self.audit.ledger.with_name("ledger-tokens")
        lines = tokens.read_text().splitlines() if tokens.exists() else []
        for line in lines[self._answered :]:
            token, key = line.split(" ")
            with contextlib.suppress(StaleToken, ExecutionClosed):  # of an attempt that died before this was on disk
                await client.complete(token, key)
            self._answered += 1

    async def start_collecting(self, client: Client, prefix: str) -> list[Execution[Any]]:
        receivers = [await client.start(collect, 0, id=f"{prefix}-collect")]
        receivers.append(await client.start(relay, [], id=f"{prefix}-relay"))
        for execution in receivers:
            self.sent[execution.id] = []
        return receivers

    async def send_numbers(self, receivers: list[Execution[Any]], first: int, end: int) -> None:
        for value in range(first, end):
            for execution in receivers:
                await execution.signal(number, value)
                self.sent[execution.id].append(value)

    async def tick(self, client: Client, count: int) -> None:
        """Start executions that take steps until they are told to stop: there is always something to do."""
        for i in range(count):
            await client.start(tick, i, id=f"tick-{i}")
            self.ticking.append(f"tick-{i}")

    async def stop_working(self) -> None:
        """Replace the workers by one that starts nothing itself."""
        await self.kill_all()
        await self.ready(await self.spawn("idle"))

    # --- the end ----------------------------------------------------------------------------------------------------

    def acknowledged(self) -> tuple[dict[str, tuple[str, int]], dict[str, list[int]]]:
        """Read what the workers were told: starts by id, and signals by id."""
        starts: dict[str, tuple[str, int]] = {}
        sent: dict[str, list[int]] = {}
        for line in self.acks.read_text().splitlines() if self.acks.exists() else []:
            what, id, *rest = line.split(" ")
            if what == "started":
                starts[id] = (rest[0], int(rest[1]))
            else:
                sent.setdefault(id, []).append(int(rest[0]))
        return starts, sent

    async def check_results(self, client: Client) -> int:
        """Wait for the end of everything that was acknowledged, and compare; give how many executions there were."""
        starts, own_sent = self.acknowledged()
        for id in self.ticking:
            await client.execution(id).cancel()
            assert await self.outcome(client, id, "tick") == "ExecutionCancelled"
        for id in [*self.sent, *[id for id, (name, _) in starts.items() if name == "collect"]]:
            await client.execution(id).signal(number, LAST)
        for id, values in self.sent.items():
            assert await client.execution(id).result(PATIENCE_S) == values, id
        for id, (name, n) in {**self.started, **starts}.items():
            if name == "collect":
                received = await client.execution(id).result(PATIENCE_S)
                assert received in (own_sent.get(id, []), list(range(len(own_sent.get(id, [])) + 1))), id
            else:
                assert await self.outcome(client, id, name) == expected(name, n), f"{id} {name} {n}"
        for id in self.cancelled:
            assert await self.outcome(client, id, "guarded") == "ExecutionCancelled"
        return len(self.sent) + len(self.started) + len(starts) + len(self.cancelled)

    async def outcome(self, client: Client, id: str, name: str) -> Any:
        """Wait for a result, or the name of an error, and answer meanwhile what waits for the outside."""
        for _ in range(int(PATIENCE_S / 0.2)):
            await self.answer(client)
            try:
                return await client.execution(id, BY_NAME[name]).result(0.2)
            except TimeoutError:
                continue
            except Exception as error:
                return type(error).__name__
        raise AssertionError(f"{id} ({name}) does not end")

    def check_cleanups(self) -> None:
        for id in self.cancelled:
            assert (id, "cleaned") in self.audit.keys, f"{id} was cancelled and did not clean up"


@pytest.fixture
def seed() -> int:
    value = int(os.environ.get("PERDURE_CRASH_SEED") or random.SystemRandom().randrange(2**32))
    print(f"PERDURE_CRASH_SEED={value}")
    return value


@pytest.fixture
def rounds() -> Callable[[int], int]:
    """Give how often to kill: `PERDURE_CRASH_ROUNDS`, or what the suite has time for."""
    return lambda default: int(os.environ.get("PERDURE_CRASH_ROUNDS") or default)


@pytest.fixture
def site(tmp_path: Path, seed: int) -> Site:
    return Site(tmp_path, seed)
