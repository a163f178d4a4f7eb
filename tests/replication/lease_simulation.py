"""Many contenders for one lease, on virtual time: clocks that run at different speeds, a network that delays, loses
requests and answers and delivers some when they were given up, processes that are stopped, continued and killed."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from perdure.replication.bucket import Found
from perdure.replication.lease import Lease
from perdure.replication.lease_object import KEY, read_record
from perdure.replication.lease_state import LeaseState
from perdure.replication.refusal import BucketConflict, BucketUnreachable

TTL_S = 10.0
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class MemoryStore:
    """Objects with compare-and-swap. As with S3, an etag is a hash: the same content again has the same."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}

    def get(self, key: str) -> Found | None:
        data = self.objects.get(key)
        return None if data is None else Found(data, hashlib.md5(data).hexdigest())

    def write(self, key: str, data: bytes, etag: str | None) -> str:
        found = self.get(key)
        if (found.etag if found else None) != etag:
            raise BucketConflict(f"{key} has changed")
        self.objects[key] = data
        return hashlib.md5(data).hexdigest()


class MemoryBucket:
    """A bucket as `Lease` uses it, without a network. `fail`, when set, is raised by what is asked next."""

    name = "memory"

    def __init__(self, store: MemoryStore) -> None:
        self.store = store
        self.conditional = True
        self.fail: Exception | None = None
        self.fail_after: Exception | None = None
        """Raised after the write was done: its answer is lost."""
        self.calls = 0

    async def honours_conditions(self) -> bool:
        return self.conditional

    async def get(self, key: str, *, timeout_s: float | None = None) -> Found | None:
        return await self.call(lambda: self.store.get(key), timeout_s, write=False)

    async def create(self, key: str, data: bytes, *, timeout_s: float | None = None) -> str:
        return await self.call(lambda: self.store.write(key, data, None), timeout_s)

    async def replace(self, key: str, data: bytes, etag: str, *, timeout_s: float | None = None) -> str:
        return await self.call(lambda: self.store.write(key, data, etag), timeout_s)

    async def call(self, apply: Callable[[], Any], timeout_s: float | None, *, write: bool = True) -> Any:
        self.calls += 1
        if self.fail is not None:
            raise self.fail
        result = apply()
        if self.fail_after is not None and write:
            raise self.fail_after
        return result


class Network(MemoryBucket):
    """The way of one contender to the store."""

    def __init__(self, store: MemoryStore, choose: random.Random) -> None:
        super().__init__(store)
        self.choose = choose
        self.trouble = 0.0
        """How likely a call goes wrong."""
        self.running = asyncio.Event()
        self.running.set()

    async def call(self, apply: Callable[[], Any], timeout_s: float | None, *, write: bool = True) -> Any:
        await self.running.wait()
        limit_s = 10.0 if timeout_s is None else timeout_s
        request_s, answer_s = (self.choose.expovariate(20 / TTL_S) for _ in range(2))
        answered = True
        outcome: list[Any] = []
        if self.choose.random() < self.trouble:
            answered = False
            # Never delivered, or delivered: soon, or long after the caller gave up.
            request_s = self.choose.choice([None, request_s, self.choose.uniform(0, 3 * TTL_S)])
        if request_s is not None:
            asyncio.get_running_loop().call_later(request_s, self._deliver, apply, outcome)
        if not answered or request_s + answer_s > limit_s:
            await asyncio.sleep(limit_s)
            await self.running.wait()
            raise BucketUnreachable("no answer")
        await asyncio.sleep(request_s + answer_s)
        await self.running.wait()
        if isinstance(outcome[0], BucketConflict):
            raise outcome[0]
        return outcome[0]

    def _deliver(self, apply: Callable[[], Any], outcome: list[Any]) -> None:
        try:
            outcome.append(apply())
        except BucketConflict as error:
            outcome.append(error)


class Contender:
    """One process after another that wants the lease, keeps it for a while, and ends in some way."""

    def __init__(self, simulation: Simulation, number: int, choose: random.Random) -> None:
        self.simulation = simulation
        self.number = number
        self.choose = choose
        self.network = Network(simulation.store, choose)
        rate, offset = choose.uniform(0.96, 1.04), choose.uniform(0, 1e6)
        loop = asyncio.get_running_loop()
        self.clock = lambda: offset + rate * loop.time()
        self.lives = 0
        self.lease: Lease | None = None

    async def run(self) -> None:
        while True:
            self.lives += 1
            ended = f"c{self.number}.{self.lives}"
            self.lease = lease = self.simulation.make_lease(self, ended)
            task = asyncio.create_task(self._live(lease))
            killed_after_s = self.choose.expovariate(1 / (8 * TTL_S))
            await asyncio.wait({task}, timeout=killed_after_s)
            if not task.done():  # kill -9: what was sent is still delivered
                for doomed in [task, *lease._tasks]:
                    doomed.cancel()
                await asyncio.gather(task, return_exceptions=True)
            elif task.exception() is not None:
                raise task.exception()
            self.lease = None
            await asyncio.sleep(self.choose.uniform(0, TTL_S))

    async def _live(self, lease: Lease) -> None:
        await lease.acquire()
        self.simulation.acquired(lease)
        try:
            await asyncio.wait_for(lease.lost.wait(), self.choose.expovariate(1 / (6 * TTL_S)))
        except TimeoutError:
            await lease.release()

    async def disturb(self) -> None:
        """Stop and continue it, and make its network worse and better, until cancelled."""
        try:
            while True:
                await asyncio.sleep(self.choose.expovariate(1 / (3 * TTL_S)))
                self.network.trouble = self.choose.choice([0.0, 0.1, 0.5, 1.0])
                if self.choose.random() < 0.3:
                    self.network.running.clear()
                await asyncio.sleep(self.choose.expovariate(1 / TTL_S))
                self.network.running.set()
        finally:
            self.network.trouble = 0.0
            self.network.running.set()


class Simulation:
    """See the module. `broken` changes each lease before it is used, to see that the simulation notices."""

    def __init__(self, seed: int, broken: Callable[[Lease], None] | None = None) -> None:
        self.choose = random.Random(seed)
        self.store = MemoryStore()
        self.broken = broken
        self.contenders: list[Contender] = []
        self.violations: list[str] = []
        self.epochs: list[int] = []
        self.nonces = 0
        self.doubts = self.losses = 0

    async def run(self, contenders: int = 5, disturbed_s: float = 40 * TTL_S, calm_s: float = 8 * TTL_S) -> None:
        """Let them contend, then leave them in peace: at the end one of them must have it, or have had it."""
        self.contenders = [Contender(self, number, random.Random(self.choose.random())) for number in range(contenders)]
        running = [asyncio.create_task(contender.run()) for contender in self.contenders]
        disturbing = [asyncio.create_task(contender.disturb()) for contender in self.contenders]
        await self._watch(disturbed_s)
        await _end(disturbing)
        before = len(self.epochs)
        held = await self._watch(calm_s)
        if not held and len(self.epochs) == before:
            self.violations.append("nobody got it although nothing was in the way")
        for task in running:
            if task.done():
                task.result()
        await _end(running)
        for contender in self.contenders:
            if contender.lease is not None:
                await _end(contender.lease._tasks)
        if self.epochs != sorted(set(self.epochs)):
            self.violations.append(f"epochs do not grow: {self.epochs}")

    def make_lease(self, contender: Contender, holder: str) -> Lease:
        def on_state(state: LeaseState) -> None:
            self.look()
            self.doubts += state is LeaseState.DOUBTFUL
            if state is LeaseState.LOST:
                self.losses += 1
                record = read_record(self.store.objects[KEY], "memory")
                if record.holder == holder:
                    self.violations.append(f"{holder} says that it lost a lease that is still its own")

        def nonce() -> str:
            self.nonces += 1
            return str(self.nonces)

        lease = Lease(
            contender.network, holder, ttl_s=TTL_S, clock=contender.clock, now=lambda: NOW, nonce=nonce,
            on_state=on_state,
        )  # fmt: skip
        if self.broken is not None:
            self.broken(lease)
        return lease

    def acquired(self, lease: Lease) -> None:
        self.epochs.append(lease.epoch)

    def look(self) -> None:
        """Two that are certain at the same time are what must never be."""
        valid = [c.lease.holder for c in self.contenders if c.lease is not None and c.lease.valid()]
        if len(valid) > 1:
            self.violations.append(f"at {asyncio.get_running_loop().time():.2f} s valid at once: {valid}")

    async def _watch(self, duration_s: float) -> bool:
        held = False
        loop = asyncio.get_running_loop()
        end = loop.time() + duration_s
        while loop.time() < end:
            await asyncio.sleep(TTL_S / 40)
            self.look()
            held = held or any(c.lease is not None and c.lease.valid() for c in self.contenders)
        return held


async def _end(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
