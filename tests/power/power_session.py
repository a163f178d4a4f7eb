"""A session at the computer: engines and a client work on one file while everything that they do to the disk, and
everything that they tell anyone, is recorded."""

from __future__ import annotations

import asyncio
import bisect
import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

import apsw
from power_disk import Image
from power_jobs import BY_NAME, JOBS, LAST, WORKFLOWS, Question, collect, effects, expected, guarded, number
from power_recorder import Recorder, Step

from perdure import Client, Engine, Execution, ExecutionInfo, Filter, Status
from perdure.errors import ExecutionClosed, ExecutionNotFound, StaleToken, StoreError
from perdure.testing.clock import START, VirtualClock, VirtualLoop

T = TypeVar("T")
NAME = "power.db"
CHECKPOINT_PAGES = (8, 25, 60)
OPEN = tuple(status for status in Status if not status.closed)


class SimulatedEngine(Engine):
    """An engine on virtual time."""

    def _make_watchdog(self, runner: Any) -> None:
        return None


@dataclass(frozen=True)
class Setting:
    """How durable commits are: those of the engine, and those of the client in its own process. `flaky` is a disk on
    which a tenth of the syncs fail, and lose what they should have kept."""

    engine: Any = "full"
    client: Any = "full"
    flaky: bool = False


Effect = tuple[str, int, int, int]
"""(execution, run, seq, attempt)"""


@dataclass
class Past:
    """What was done to the world, and asked of it."""

    effects: list[Effect] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)

    def then(self, other: Past) -> Past:
        return Past(self.effects + other.effects, self.questions + other.questions)


@dataclass
class Recording:
    """What one session did: `image` is what it found, `steps` what it did to that."""

    image: Image
    steps: list[Step]
    setting: Setting
    past: Past = field(default_factory=Past)
    """Of this session alone."""
    moments: tuple[list[int], list[int]] = field(default_factory=lambda: ([], []))
    """Steps before which the effects were, and the questions."""

    def until(self, step: int) -> Past:
        """Give what happened before a step."""
        effects, questions = (bisect.bisect_right(moments, step) for moments in self.moments)
        return Past(self.past.effects[:effects], self.past.questions[:questions])


class Session:
    """See the module. `depth` is how often the power was cut before; time has gone on since then. `past` is what
    happened until then."""

    def __init__(self, folder: Path, choose: random.Random, setting: Setting, depth: int, past: Past) -> None:
        self.path = folder / NAME
        self.choose = choose
        self.setting = setting
        self.depth = depth
        self.before = past
        self.clock = VirtualClock(START + timedelta(days=depth))
        self.recorder = Recorder(folder, fails=lambda: setting.flaky and self.working and choose.random() < 0.1)
        self.working = False
        self.recording = Recording(self.recorder.image, self.recorder.steps, setting)
        self.engine: Engine
        self.client: Client

    def record(self, *acts: Callable[[], Coroutine[Any, Any, None]]) -> Recording:
        """Do `acts`, each with an engine and a client of its own."""
        effects.tell, effects.ask = self._effect, self._question
        with self.recorder, _checkpoints_every(self.choose.choice(CHECKPOINT_PAGES)):
            for act in acts:
                loop = VirtualLoop(self.clock)
                try:
                    loop.run_until_complete(self._open_and(act))
                finally:
                    loop.close()
        return self.recording

    async def _open_and(self, act: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.recorder.phase("taking over" if self.path.exists() else "creating")
        hot, setting = self.choose.choice([0, 3, 10_000]), self.setting
        engine = SimulatedEngine(
            self.path, WORKFLOWS, hot=hot, grace_s=0, synchronous=setting.engine, now=self.clock.now_us
        )
        engine._draw = random.Random(self.depth).random  # or a record could not be repeated
        async with engine as self.engine:
            async with Client(self.path, synchronous=setting.client, now=self.clock.now_us) as self.client:
                self.recorder.phase("working")
                self.working = True
                await act()
                self.working = False
                self.recorder.phase("closing")

    def _effect(self, id: str, run: int, seq: int, attempt: int) -> None:
        self.recording.past.effects.append((id, run, seq, attempt))
        self.recording.moments[0].append(len(self.recorder.steps))
        self._told(self.engine, "effect", id, run, seq, attempt)

    def _question(self, question: Question) -> None:
        self.recording.past.questions.append(question)
        self.recording.moments[1].append(len(self.recorder.steps))

    def _told(self, teller: Client, *claim: Any) -> None:
        """Take note of what `teller` said. An end was written by the engine, whoever reads it."""
        level = self.setting.engine if teller is self.engine or claim[0] == "ended" else self.setting.client
        self.recorder.mark(level == "full", *claim)

    def _someone(self) -> Client:
        return self.choose.choice([self.engine, self.client])

    # --- acts -------------------------------------------------------------------------------------------------------

    async def work(self, jobs: int = 6) -> None:
        """Start, signal, cancel and await, and leave something undone."""
        prefix = f"{self.depth}-{len(self.recorder.steps)}"
        acts = [self._run_job(f"{prefix}-{i}", self.choose.random() < 0.6) for i in range(jobs)]
        acts += [self._send_numbers(f"{prefix}-collect"), self._cancel_one(f"{prefix}-guarded")]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.choose.choice([0.01, 0.05, 5.0])):
                await asyncio.gather(*acts)

    async def clean_up(self) -> None:
        """Delete what has ended, and give the room back."""
        self.recorder.phase("deleting")
        closed = [info.id for info in self.client.store.list(Filter(limit=1000)) if info.status.closed]
        teller = self._someone()
        batch = self.choose.choice([1, 100])
        await insist(lambda: teller.gc(older_than_s=0, batch=batch))
        for id in closed:
            try:
                await teller.describe(id)
            except ExecutionNotFound:
                self._told(teller, "gone", id)

    async def finish(self) -> None:
        """Bring everything to its end, and see that it is the right one."""
        for _ in range(500):
            open_ = self.client.store.list(Filter(status=OPEN, limit=1000))  # not in a thread, which would not repeat
            if not open_:
                break
            for info in open_:
                with contextlib.suppress(ExecutionClosed):
                    await insist(lambda info=info: self._nudge(self.client.execution(info.id), info))
            await self._answer()
            await asyncio.sleep(0.2)
        assert not open_, f"does not end: {open_}"
        for info in self.client.store.list(Filter(limit=1000)):
            await self._check_end(info.id, info.workflow)

    async def _nudge(self, execution: Execution[Any], info: ExecutionInfo) -> None:
        """Do what an execution waits for."""
        if info.status is Status.PAUSED:
            await execution.resume()
        elif info.workflow == "collect":
            await execution.signal(number, LAST)
        elif info.workflow == "guarded":
            await execution.cancel()

    async def _check_end(self, id: str, name: str) -> None:
        status, outcome = await self._outcome(self.engine.execution(id, BY_NAME[name]))
        if name == "guarded" or (status == "cancelled" and "-" in id):  # its parent may have been cancelled
            assert status == "cancelled", f"{id} ended as {status}: {outcome}"
        elif name == "collect":
            assert outcome == list(range(len(outcome))), f"{id} received {outcome}"
        else:
            n = await self._size(id)
            assert outcome == expected(name, n), f"{id} ({name} {n}) gave {outcome}"

    async def _size(self, id: str) -> int:
        events = [event async for event in self.client.execution(id).history(run=1)]
        return int(events[0].value().get("n", 0))

    async def _outcome(self, execution: Execution[Any]) -> tuple[str, Any]:
        """Wait for the end; give the status and the result, or the error's name."""
        try:
            return "completed", await execution.result()
        except Exception as error:
            return str((await execution.info()).status), type(error).__name__

    # --- what is asked for ------------------------------------------------------------------------------------------

    async def _run_job(self, id: str, wait: bool) -> None:
        await asyncio.sleep(self.choose.random() * 0.02)
        teller, workflow, n = self._someone(), self.choose.choice(JOBS), self.choose.randint(1, 4)
        execution: Execution[Any] = await insist(lambda: teller.start(workflow, n, id=id))
        self._told(teller, "started", id)
        if self.choose.random() < 0.2:
            with contextlib.suppress(ExecutionClosed):
                await insist(lambda: execution.pause("for a moment"))
                await insist(execution.resume)
        if workflow.name == "approved":
            await asyncio.sleep(0.01)
            await self._answer()
        if wait:
            status, _ = await self._outcome(execution)
            self._told(teller, "ended", id, status)

    async def _send_numbers(self, id: str) -> None:
        first = self._someone()
        await insist(lambda: first.start(collect, [], id=id))
        self._told(first, "started", id)
        for value in range(self.choose.randint(3, 8)):
            teller = self._someone()
            await insist(lambda teller=teller, value=value: teller.execution(id).signal(number, value))
            self._told(teller, "signalled", id, value)
            await asyncio.sleep(self.choose.choice([0, 0.002]))

    async def _cancel_one(self, id: str) -> None:
        teller = self._someone()
        execution = await insist(lambda: teller.start(guarded, id=id))
        self._told(teller, "started", id)
        await insist(lambda: execution.cancel("enough"))
        self._told(teller, "cancelled", id)

    async def _answer(self) -> None:
        """Give every activity that waits for the outside its answer."""
        for question in [*self.before.questions, *self.recording.past.questions]:
            with contextlib.suppress(StaleToken, ExecutionClosed):
                await insist(lambda asked=question: self.client.complete(asked.token, asked.key))
                self._told(self.client, "answered", question.execution, question.run, question.seq)


async def insist(act: Callable[[], Awaitable[T]]) -> T:
    """Do what someone does who was told that it did not work."""
    while True:
        try:
            return await act()
        except StoreError:
            await asyncio.sleep(0.002)


@contextlib.contextmanager
def _checkpoints_every(pages: int) -> Iterator[None]:
    """Have the log checkpointed much more often than the file of a short session would need."""

    def often(connection: apsw.Connection) -> None:
        connection.wal_autocheckpoint(pages)

    apsw.connection_hooks.append(often)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(often)
