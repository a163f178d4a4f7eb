"""Real processes fight for one lease in a real S3: stopped, continued, killed, and ended in order."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from servers import S3Server

from perdure.replication.bucket import Bucket
from perdure.replication.lease_object import KEY, read_record
from perdure.replication.target import Target

CONTENDERS = 8
TTL_S = 2.5
PATIENCE_S = 60.0
Until = Callable[..., Any]


class Contender:
    """A process of `lease_contender.py`, and what it said: what, epoch, uptime in seconds."""

    def __init__(self, holder: str, process: asyncio.subprocess.Process) -> None:
        self.holder = holder
        self.process = process
        self.said: list[tuple[str, int, float]] = []
        self.reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            what, epoch, at = line.split()
            self.said.append((what.decode(), int(epoch), float(at)))

    def when(self, what: str) -> list[float]:
        return [at for said, _, at in self.said if said == what]

    @property
    def epoch(self) -> int:
        return max((epoch for _, epoch, _ in self.said), default=0)

    @property
    def holding(self) -> bool:
        last = [what for what, _, _ in self.said][-1:]
        return last == ["valid"]

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")


@asynccontextmanager
async def contenders(url: str, count: int, until: Until) -> AsyncIterator[list[Contender]]:
    """Start processes that wait for `go`. What is left of them at the end is killed."""
    script = str(Path(__file__).with_name("lease_contender.py"))
    started: list[Contender] = []
    try:
        for number in range(count):
            process = await asyncio.create_subprocess_exec(
                sys.executable, script, url, f"c{number}", str(TTL_S),
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
            )  # fmt: skip
            started.append(Contender(f"c{number}", process))
        await until(lambda: all(contender.when("ready") for contender in started), PATIENCE_S)
        yield started
    finally:
        for contender in started:
            if contender.process.returncode is None:
                contender.process.kill()
            await contender.process.wait()
            await contender.reading


def never_two(all_of_them: list[Contender]) -> None:
    """Nobody found its lease valid at or after the moment when one with a higher epoch had its own."""
    for first in all_of_them:
        for second in all_of_them:
            since = second.when("held")
            if since and 0 < first.epoch < second.epoch:
                assert max(first.when("valid"), default=0.0) < since[0], (first.holder, second.holder)


@pytest.mark.slow
@pytest.mark.parametrize("store", ["moto", "file"])
async def test_one_of_many_wins_and_each_stop_hands_it_on(
    store: str, request: pytest.FixtureRequest, bucket_name: str, tmp_path: Path, until: Until
) -> None:
    server: S3Server | None = request.getfixturevalue("moto") if store == "moto" else None
    url = server.url(bucket_name, "shop") if server else f"file://{tmp_path}/shop"
    async with contenders(url, CONTENDERS, until) as all_of_them:
        for contender in all_of_them:
            contender.go()

        def holder() -> Contender | None:
            return next((contender for contender in all_of_them if contender.holding), None)

        first = await until(holder, PATIENCE_S)
        assert [c.holder for c in all_of_them if ("held", 1) in [said[:2] for said in c.said]] == [first.holder]

        # Stopped for longer than its lease: another one has it, and this one knows as soon as it wakes up.
        first.process.send_signal(signal.SIGSTOP)
        heard = len(first.said)
        second = await until(lambda: next((c for c in all_of_them if c.holding and c is not first), None), PATIENCE_S)
        first.process.send_signal(signal.SIGCONT)
        await until(lambda: first.when("lost"), PATIENCE_S)
        assert second.epoch > first.epoch
        woken = [(what, at) for what, _, at in first.said[heard:] if at > second.when("held")[0]]
        assert woken
        assert "valid" not in [what for what, _ in woken]

        # A clean stop: the next one does not wait for the ttl.
        second = await until(holder, PATIENCE_S)
        second.go()
        await until(lambda: second.when("released"), PATIENCE_S)
        third = await until(holder, PATIENCE_S)
        assert third.epoch > second.epoch

        # Killed: one more.
        third.process.kill()
        await third.process.wait()
        await third.reading
        third.said.append(("killed", third.epoch, 0.0))
        fourth = await until(holder, PATIENCE_S)
        assert fourth.epoch > third.epoch
        never_two(all_of_them)
        epochs = [epoch for contender in all_of_them for what, epoch, _ in contender.said if what == "held"]
        assert len(epochs) == len(set(epochs)) >= 4
        found = await Bucket.open(Target.parse(url)).get(KEY)
        assert found is not None
        assert read_record(found.data, "shop").holder == fourth.holder
