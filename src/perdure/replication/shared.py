"""One Litestream for many databases, which come and go while it runs.

1. Each database is handed over through the control socket. Litestream follows those every second, whatever
   `interval_s` says: it has no setting for that there.
2. Before a database is handed over, at the start and after Litestream has died, its log is emptied, as `supervisor.py`
   does; and never while Litestream may have it.
3. A database is given up once Litestream has let go of it, or is dead.
4. A database that cannot be handed over disturbs no other.

    start ──▶ waiting for litestream ──▶ emptied, handed over ──▶ stop: a last upload, taken back
                        ▲                          │ litestream died
                        └──────────────────────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from perdure.errors import PerdureError
from perdure.replication.bucket import Bucket
from perdure.replication.childlock import ChildLock
from perdure.replication.control import Control, ControlError
from perdure.replication.litestream import Settings
from perdure.replication.supervisor import Supervisor
from perdure.replication.target import InvalidTarget, Target

logger = logging.getLogger("perdure.replication")

T = TypeVar("T")
CALLS_AT_ONCE = 16
AGAIN_S = (0.2, 1.0, 5.0, 15.0)
NUDGE_EVERY_S = 30.0
"""Starting it anew costs each database a full copy: not more often, however many ask for it."""
GONE_S = 10.0
"""How long it may keep a database that was taken back without an answer, before it is killed for that."""


class SharedLitestream:
    """See the module. `lock` says that a Litestream runs for these files; see `childlock.py`."""

    def __init__(self, lock: Path, settings: Settings, credentials: Mapping[str, str]) -> None:
        self.settings = settings
        self.supervisor = Supervisor([], lock, lambda: None, settings, credentials)
        self.supervisor.on_ready = self._began
        self.life = 0
        """Which Litestream it is; 0 while there was none yet."""
        self.seats: set[Seat] = set()
        self.calls = ThreadPoolExecutor(CALLS_AT_ONCE, thread_name_prefix="perdure-litestream")
        """For what is asked of it: an answer may take long when the bucket is away."""
        self._changed = asyncio.Event()
        self._nudged_at = float("-inf")

    async def start(self) -> None:
        """Raises `LitestreamMissing`, `AnotherLitestream`."""
        await self.supervisor.start()

    async def stop(self) -> None:
        await self.supervisor.stop()
        self.calls.shutdown(wait=False, cancel_futures=True)

    def call(self, ask: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Ask it something, on a thread."""
        return asyncio.get_running_loop().run_in_executor(self.calls, ask, *arguments)

    def seat(self, database: Path, target: Target, checkpoint: Callable[[], None]) -> Seat:
        """Give what hands one database over, to be streamed to `target`."""
        return Seat(self, database, target, checkpoint)

    def nudge(self) -> None:
        """Have Litestream begin anew, for all of them."""
        now = time.monotonic()
        if now - self._nudged_at > NUDGE_EVERY_S:
            self._nudged_at = now
            self.supervisor.nudge()

    async def begun_after(self, life: int) -> int:
        """Wait for a Litestream that came after `life`; give which one it is."""
        while self.life <= life or self.supervisor.pid is None:
            changed = self._changed
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await changed.wait()
        return self.life

    def _began(self) -> None:
        self.life += 1
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


class Seat:
    """One database in a Litestream that it shares. Asked and told as a `Supervisor` of its own would be."""

    def __init__(
        self, shared: SharedLitestream, database: Path, target: Target, checkpoint: Callable[[], None]
    ) -> None:
        self.shared = shared
        self.database = database
        self.meta = database.with_name(f".{database.name}-litestream")
        self.url = _url(target)
        self.lock = ChildLock(database.with_name(f"{database.name}-litestream-lock"))
        self.checkpoint = checkpoint
        self.on_ready: Callable[[], None] | None = None
        self._problem: str | None = "it is not handed over to litestream yet"
        self._life = 0
        """The Litestream that has it, or may have it; 0: none."""
        self._restarts = shared.supervisor.restarts
        self._task: asyncio.Task[None] | None = None
        self._handing: asyncio.Future[None] | None = None

    @property
    def pid(self) -> int | None:
        """The process id of the Litestream that has it, or is being given it; None when none has."""
        return self.shared.supervisor.pid if self._life and self._life == self.shared.life else None

    @property
    def control(self) -> Control:
        return self.shared.supervisor.control

    @property
    def problem(self) -> str | None:
        return self.shared.supervisor.problem or self._problem

    @property
    def restarts(self) -> int:
        return self.shared.supervisor.restarts - self._restarts

    async def start(self) -> None:
        """Hand the database over, now and whenever Litestream has been started anew. Raises `AnotherLitestream`."""
        await self.lock.take()
        shutil.rmtree(self.meta, ignore_errors=True)
        self.shared.seats.add(self)
        self._task = asyncio.create_task(self._keep_seated(), name="perdure-litestream-seat")

    async def stop(self, *, upload: bool = True) -> bool:
        """Take it back; give whether everything was uploaded first. It is uploaded in any case, as far as that goes in
        time: where nobody will look for it, if it must not go on."""
        timeout_s = self.shared.settings.final_sync_s if upload else 1.0
        clean = upload and await self._take_up(timeout_s)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if self._handing is not None:
            await asyncio.gather(self._handing, return_exceptions=True)
        clean = await self._take_back(timeout_s) and clean
        if clean:
            await asyncio.to_thread(shutil.rmtree, self.meta, True)
        self.lock.release()
        self.shared.seats.discard(self)
        return clean

    def nudge(self) -> None:
        self.shared.nudge()

    @property
    def resting(self) -> bool:
        return self.shared.supervisor.resting

    def rest(self) -> None:
        """End Litestream until the bucket answers: it is away for all of them."""
        self.shared.supervisor.rest()

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _keep_seated(self) -> None:
        life = tries = 0
        while True:
            life = await self.shared.begun_after(life)
            try:
                await self._hand_over(life)
            except (PerdureError, OSError) as error:
                told = error.message if isinstance(error, PerdureError) else str(error)
                if told != self._problem:
                    logger.warning("%s: replication has trouble, local work goes on: %s", self.database, told)
                self._problem = told
                await asyncio.sleep(AGAIN_S[min(tries, len(AGAIN_S) - 1)])
                tries += 1
                life -= 1  # the same one again
                continue
            tries = 0

    async def _hand_over(self, life: int) -> None:
        self.checkpoint()
        self._life = life  # from now on it may have it
        self._handing = self.shared.call(self.control.register, self.database, self.url)
        try:
            await asyncio.shield(self._handing)
        except ControlError:
            await self.shared.call(self._withdraw)  # it may have been done all the same: not twice with a full log
            self._life = 0
            raise
        finally:
            if self._handing.done():
                self._handing = None
        self._problem = None
        pid = self.shared.supervisor.pid
        if pid is not None:
            self.lock.note(pid)
        if self.on_ready is not None:
            self.on_ready()

    def _withdraw(self) -> None:
        with contextlib.suppress(ControlError):
            self.control.unregister(self.database, 1.0)

    async def _take_up(self, timeout_s: float) -> bool:
        """Have it take up what is committed; give whether it has."""
        try:
            async with asyncio.timeout(timeout_s):
                while self.pid is None or self._handing is not None:
                    await asyncio.sleep(0.02)
                await self.shared.call(self.control.sync, self.database)
        except (ControlError, TimeoutError) as error:
            why = error.message if isinstance(error, ControlError) else "litestream does not run, or hangs"
            logger.warning("%s: something may be left behind: %s", self.database, why)
            return False
        return True

    async def _take_back(self, timeout_s: float) -> bool:
        """Have Litestream let go of it; give whether it has uploaded everything first."""
        life, self._life = self._life, 0
        if not life or life != self.shared.life or self.shared.supervisor.pid is None:
            return False
        try:
            await self.shared.call(self.control.unregister, self.database, timeout_s)
        except ControlError as error:
            logger.warning("%s: something may be left behind: %s", self.database, error.message)
        else:
            return True
        deadline = time.monotonic() + GONE_S
        while time.monotonic() < deadline and life == self.shared.life and self.shared.supervisor.pid is not None:
            with contextlib.suppress(ControlError):
                if str(self.database) not in await self.shared.call(self.control.databases):
                    return False
            await asyncio.sleep(0.2)
        if life == self.shared.life:  # it must not have the file when the next one runs it
            self.shared.supervisor.nudge()
        return False


@dataclass(frozen=True, slots=True)
class Share:
    """What one of many replicas in a bucket has from their common owner."""

    bucket: Bucket
    """Below this database's own prefix."""
    transfers: Bucket
    """The same, for requests that carry much."""
    litestream: SharedLitestream


def _url(target: Target) -> str:
    """Write a target as Litestream reads it. It does not undo what a file's path has to be quoted for."""
    if target.scheme == "file" and quote(target.prefix) != target.prefix:
        raise InvalidTarget(f"{target.prefix} has characters that Litestream cannot take", hint="name another folder")
    return target.litestream_url()
