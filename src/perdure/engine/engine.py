"""The engine: opens a database, becomes its runner or stands by, and runs workflows.

        lock free                      commit refused (another runner)
open ─────────────▶ leading ──────────────────────────────────────▶ standing by
  │ lock taken                     lock free (its holder died or closed)  │
  └───────────────▶ standing by ─────────────────────────▶ leading ◀──────┘
                     any state ── leave the block ──▶ draining ──▶ closed
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import platform
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from perdure.client.client import Client
from perdure.client.remote import Remote
from perdure.client.waiting import Ending
from perdure.codec.payload import Codec
from perdure.engine.attempt import Attempt
from perdure.engine.executor import Executor, default_threads
from perdure.engine.inputs import Input
from perdure.engine.local import Local
from perdure.engine.process import refuse_in_import
from perdure.engine.registry import Registry
from perdure.engine.replicator import ReplicationStatus, Replicator, Site, Stream
from perdure.engine.runner import Runner
from perdure.engine.watchdog import Watchdog
from perdure.errors import StaleRunner, StoreError
from perdure.guard import audit
from perdure.replay import current_run
from perdure.store import ExecutionRow
from perdure.store.sqlite import Doorbell, RunnerLock, SqliteStore
from perdure.store.sqlite.connection import Synchronous
from perdure.store.sqlite.store import wall_clock_us
from perdure.types import Durability
from perdure.workflow import Workflow

logger = logging.getLogger("perdure.engine")

TRY_LOCK_EVERY_S = 0.02
LOOK_EVERY_S = 1.0
"""How often the runner looks for requests without being rung, and writes heartbeats."""


class Engine(Client):
    """Runs the workflows of one database. Also everything that a `Client` is.

        async with Engine("shop.db", workflows=[fulfil]) as engine:
            execution = await engine.start(fulfil, order, id="order-42")

    One process at a time is a file's runner; engines in others stand by, and take over at once when it is gone.
    Entering the block resumes everything that was under way. Leaving it takes no new work, gives running activities
    `grace_s` seconds, commits and gives the runner's lock up.

    `synchronous="normal"` syncs the disk at checkpoints only: faster, a crash of the process still loses nothing, a
    power cut may lose the newest commits. `strict` makes code that is not deterministic an error and not a warning.
    `hot` is how many waiting executions are kept in memory. `deployment` names this version of the code in what it
    starts. `replicate` streams the file to a bucket; with `durability="replicated"` callers are answered, and
    activities start, only once what led to that is there.
    """

    def __init__(
        self,
        database: str | Path,
        workflows: Iterable[Workflow[..., Any, Any] | ModuleType],
        *,
        codec: Codec | None = None,
        max_payload_bytes: int = 16 * 1024 * 1024,
        synchronous: Synchronous = "full",
        strict: bool = False,
        max_async: int = 1_000,
        max_threads: int | None = None,
        max_processes: int | None = None,
        hot: int = 10_000,
        grace_s: float = 10.0,
        deployment: str | None = None,
        replicate: Replicator | None = None,
        durability: Durability | str = Durability.LOCAL,
        now: Callable[[], int] = wall_clock_us,
    ) -> None:
        super().__init__(
            database,
            codec=codec,
            max_payload_bytes=max_payload_bytes,
            synchronous=synchronous,
            durability=durability,
            now=now,
        )
        if replicate is None and self.durability is Durability.REPLICATED:
            raise ValueError('durability="replicated" needs a replica: replicate=Replica("s3://bucket/prefix")')
        if replicate is not None and synchronous != "full":
            raise ValueError(
                'a replicated database needs synchronous="full": a power cut could put it behind its replica'
            )
        self._creates = True
        self.registry = Registry(workflows, strict)
        self.replicate = replicate
        self._stream: Stream | None = None
        self.barred: BaseException | None = None
        """Why this engine will not lead again: another machine has its database."""
        self.fault: StoreError | None = None
        """After closing: why the last commit failed, so that not all of what was done is in the file."""
        self.hot = hot
        self.grace_s = grace_s
        self.deployment = deployment or os.environ.get("PERDURE_DEPLOYMENT")
        self.limits = {
            "max_async": max_async,
            "max_threads": max_threads or default_threads(),
            "max_processes": max_processes or os.cpu_count() or 1,
        }
        self._draw: Callable[[], float] = random.SystemRandom().random
        self._lock = RunnerLock(self.path)
        self._runner: Runner | None = None
        self._executor: Executor | None = None
        self._runner_store: SqliteStore | None = None
        self._runner_bell: Doorbell | None = None
        self._watchdog: Watchdog | None = None
        self._chores: asyncio.Task[None] | None = None
        self._stepping_down: asyncio.Task[None] | None = None

    @property
    def leading(self) -> bool:
        """Whether this engine is the runner; otherwise it stands by."""
        return self._runner is not None and not self._runner.closed

    @property
    def replication(self) -> ReplicationStatus | None:
        """How far the replica follows, and what is wrong with it; None without `replicate`, and while standing by."""
        return None if self._stream is None else self._stream.status()

    # --- for who runs many ------------------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether something runs or is to be done now. What waits for a timer, a signal or an answer from outside does
        not count."""
        runner, executor = self._runner, self._executor
        return (executor is not None and bool(executor.running)) or (runner is not None and runner.busy)

    @property
    def next_due_at(self) -> int | None:
        """The instant of the earliest timer, microseconds since 1970."""
        return None if self._runner is None else self._runner.arrivals.next_due

    @property
    def newest_request(self) -> int:
        """The number of the newest request of another process that it has read."""
        return 0 if self._runner is None else self._runner.arrivals.seen

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        refuse_in_import()
        audit.install(current_run)
        await super().__aenter__()
        try:
            if not self._try_to_lead():
                logger.info("%s: %s is the runner; standing by", self.path, self._lock.holder() or "another engine")
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        self._chores = asyncio.create_task(self._do_chores(), name="perdure-chores")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._chores is not None:
            self._chores.cancel()
            await asyncio.gather(self._chores, return_exceptions=True)
            self._chores = None
        if self._stepping_down is not None:
            await self._stepping_down
            self._stepping_down = None
        try:
            await self._stop_leading(self.grace_s)
        finally:
            if self._runner is not None:  # interrupted while it stopped: it must not go on without the lock
                self._runner.closed = True
            self._lock.release()
            await super().__aexit__(kind, error, trace)

    async def _do_chores(self) -> None:
        """Stand by for the lock; as the runner, look now and then for what a lost ring left in the file."""
        while True:
            if self.barred is not None:
                return
            if self._runner is None:  # one that is closed is still stepping down, and has its lock
                await self._until_next_try()
                try:
                    self._try_to_lead()
                except Exception as error:
                    self._log("could not take over as the runner, trying again", error)
                    await self._step_down()
                    await asyncio.sleep(1.0)
                continue
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                if self.leading:
                    self._runner.tick()
            except Exception as error:
                self._log("could not look for requests, trying again", error)

    def _log(self, what: str, error: Exception) -> None:
        """Say what went wrong: of the store what to do about it, of all else where it comes from."""
        if isinstance(error, StoreError):
            logger.error("%s: %s: %s", self.path, what, error)
        else:
            logger.error("%s: %s", self.path, what, exc_info=error)

    # --- leading ----------------------------------------------------------------------------------------------------

    def _try_to_lead(self) -> bool:
        description = _describe_process()
        if not self._lock.acquire(description):
            return False
        loop = asyncio.get_running_loop()
        store = self._runner_store = self._open_store(True, "always" if self.replicate is None else "never")
        epoch = store.become_runner(description)
        if self.replicate is not None:
            database_id = str(store.reader.meta("database_id"))
            loop_now = asyncio.get_running_loop()
            site = Site(self.path, database_id, epoch, store, loop_now, self.now, self.deployment, self._bar)
            self._stream = self.replicate.begin(site)
        runner = self._runner = Runner(
            store,
            self.registry,
            now=self.now,
            loop=loop,
            start=self._start_attempt,
            on_closed=self._on_closed,
            on_fault=self._on_fault,
            draw=self._draw,
            max_bytes=self.payloads.max_bytes,
            hot=self.hot,
            deployment=self.deployment,
            private=self.payloads.codec is not None,
            stream=self._stream,
            durability=self.durability,
        )
        self._executor = self._make_executor(loop, runner)
        self._executor.on_heartbeat = runner.beat
        self._listen(loop, runner)
        self._watchdog = self._make_watchdog(runner)
        self._gateway = Local(runner)
        if self._waiting is not None:
            self._waiting.follow(remote=False)
        runner.recover()
        if self._watchdog is not None:
            self._watchdog.start()
        logger.info("%s: runner with epoch %d", self.path, epoch)
        return True

    def _listen(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> None:
        bell = self._runner_bell = self._make_doorbell()
        fd = bell.listen("runner")

        def rung() -> None:
            bell.answer()
            runner.rung()

        if fd is not None:
            loop.add_reader(fd, rung)
        else:
            logger.warning("%s: no named pipes here; requests of other processes are seen once a second", self.path)

    def _start_attempt(self, attempt: Attempt) -> None:
        if self._executor is not None:
            self._executor.start(attempt)

    def _submit(self, item: Input) -> None:
        if self._runner is not None:
            self._runner.submit(item)

    def _on_closed(self, closed: dict[str, Ending]) -> None:
        if self._waiting is not None:
            self._waiting.report(closed)
        if self._runner_bell is not None:
            self._runner_bell.ring("client")

    def _on_fault(self, error: BaseException) -> None:
        if isinstance(error, StaleRunner) and self._runner is not None and not self._runner.closed:
            logger.error("%s: %s", self.path, error)
            self._runner.closed = True
            self._stepping_down = asyncio.get_running_loop().create_task(self._step_down())

    def _bar(self, error: BaseException) -> None:
        """Stop for good: the database is another machine's now, and the lock of this one says nothing about that."""
        self.barred = error
        self._on_fault(error)

    async def _step_down(self) -> None:
        await self._stop_leading(0.0)
        self._lock.release()

    async def _stop_leading(self, grace_s: float) -> None:
        """Stop in order: no new work, running attempts get their time, everything that ended is committed."""
        runner, executor = self._runner, self._executor
        if runner is None:
            if self._runner_store is not None:  # it could not become the runner
                self._runner_store.close()
                self._runner_store = None
            return
        runner.draining = True
        if self._stream is not None:
            self._stream.let_go()
        if executor is not None:
            await executor.drain(grace_s if not runner.closed else 0.0)
        await runner.finish()
        self.fault = None if isinstance(runner.faults.last, StaleRunner) else runner.faults.last
        if self._watchdog is not None:
            self._watchdog.close()
        if executor is not None:
            executor.close()
        if self._runner_bell is not None:
            if self._runner_bell.fd is not None:
                runner.loop.remove_reader(self._runner_bell.fd)
            self._runner_bell.close()
        runner.drop_all()
        if self._stream is not None:
            await self._stream.close()
            self._stream = None
        if self._runner_store is not None:
            self._runner_store.close()
        self._runner = self._executor = self._runner_store = self._runner_bell = self._watchdog = None
        if self._waiting is not None and self._store is not None:
            self._gateway = Remote(runner.loop, self._store, lambda: self.doorbell.ring("runner"), self.now)
            self._waiting.follow(remote=True)

    # --- what a simulation replaces ---------------------------------------------------------------------------------

    def _make_executor(self, loop: asyncio.AbstractEventLoop, runner: Runner) -> Executor:
        return Executor(loop, runner.submit, self.now, self.payloads, **self.limits)

    async def _until_next_try(self) -> None:
        """Wait before the lock is tried again."""
        await asyncio.sleep(TRY_LOCK_EVERY_S)

    def _make_watchdog(self, runner: Runner) -> Watchdog | None:
        """Make the watchdog; None for a loop on virtual time, on which standing still means nothing."""
        return Watchdog(runner, lambda: self._executor.running if self._executor else ())

    # --- for handles ------------------------------------------------------------------------------------------------

    async def _replicated(self) -> None:
        if self._stream is None:
            await super()._replicated()
        else:
            await self._stream.reached()

    def _certainly_open(self, id: str) -> bool:
        return self._runner is not None and id in self._runner.memory.lives

    async def _row(self, id: str) -> ExecutionRow:
        live = self._runner.memory.lives.get(id) if self._runner is not None else None
        return live.row if live is not None else await super()._row(id)


def _describe_process() -> str:
    return json.dumps({"pid": os.getpid(), "host": platform.node()})
