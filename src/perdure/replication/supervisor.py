"""Keeps one Litestream running: started, restarted when it dies, stopped after a last upload.

1. Never two on the same files: see `childlock.py`.
2. Before every start the log of each database is moved into its file (a TRUNCATE checkpoint): one that begins anew
   then starts with a full snapshot. Without that it can miss pages, and nothing would tell.
3. Nothing here waits for the bucket. Local work goes on whatever happens to the child.
4. It does not outlive us. It reads commits in the log, also one that we were killed in, which never becomes true: what
   it uploaded next would be made of a state without that one, and nothing could be restored.

              start                      it died, or hung and was killed
    stopped ────────▶ running ─────────────────────────▶ waiting ──(backoff, checkpoint)──▶ running
       ▲                 │ stop: SIGTERM, it uploads the rest, SIGKILL after `final_sync_s`
       └─────────────────┘
       `rest` kills it, and only `nudge` or `stop` have it started again: in an outage it may fill this disk
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from perdure.errors import PerdureError
from perdure.replication import litestream
from perdure.replication.childlock import ChildLock
from perdure.replication.childlog import ChildLog
from perdure.replication.control import Control, ControlError
from perdure.replication.litestream import Settings, Source

logger = logging.getLogger("perdure.replication")

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 30.0
"""Running so long, its next death is a new trouble and not the same one."""
START_S = 30.0
"""How long a new one gets to open its socket."""
LAST_WORDS_S = 5.0
"""How much longer than it was told it may take to stop."""
HEALTH_EVERY_S = 10.0
SILENCES = 3
"""So often in a row it may not answer what needs neither a file nor the bucket; then it hangs."""


class Supervisor:
    """See the module. `checkpoint` empties the logs of all databases, or raises `PerdureError`; `lock` is a file beside
    them. `credentials` go into the child's environment and nowhere else."""

    def __init__(
        self,
        sources: Sequence[Source],
        lock: Path,
        checkpoint: Callable[[], None],
        settings: Settings | None = None,
        credentials: Mapping[str, str] | None = None,
    ) -> None:
        self.sources = sources
        self.lock = ChildLock(lock)
        self.checkpoint = checkpoint
        self.settings = settings or Settings()
        self.credentials = dict(credentials or {})
        self.on_ready: Callable[[], None] | None = None
        """Called when a new one answers: what the one before has said does not count any more."""
        self.restarts = 0
        self.problem: str | None = None
        """What is wrong now; None while it runs."""
        self._process: asyncio.subprocess.Process | None = None
        self._log: ChildLog | None = None
        self._nudged = False
        self._awake = asyncio.Event()
        self._awake.set()
        self._folder: Path | None = None
        self._task: asyncio.Task[None] | None = None
        self._ready = asyncio.Event()

    @property
    def pid(self) -> int | None:
        """The child's process id while it runs."""
        return self._process.pid if self._process is not None and self._process.returncode is None else None

    @property
    def control(self) -> Control:
        """Where to ask it. Raises `ControlError` while none was started."""
        if self._folder is None:
            raise ControlError("litestream is not running")
        return Control(self._folder / "s")

    async def start(self) -> None:
        """Start it and keep it running. Raises `LitestreamMissing`, `AnotherLitestream`."""
        litestream.find()
        await self.lock.take()
        # a short path: that of a unix socket may not have more than about 100 characters
        self._folder = Path(tempfile.mkdtemp(prefix="perdure-"))
        for source in self.sources:
            shutil.rmtree(source.meta, ignore_errors=True)  # of another replica: this one is new
        self._task = asyncio.create_task(self._keep_running(), name="perdure-litestream")

    async def ready(self) -> None:
        """Wait until it answers on its socket."""
        await self._ready.wait()

    async def stop(self, *, upload: bool = True) -> bool:
        """End it; give whether it has uploaded everything first. Without `upload`, for one whose writes must not go on,
        at once."""
        self._awake.set()
        clean = upload and self._task is not None and await self._take_up()
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            clean = await self._end(process, upload) and clean
        else:
            clean = False
        self._leave()
        return clean

    async def _take_up(self) -> bool:
        """Have it take up what is committed; give whether it has. One that has only just begun would end without."""
        try:
            async with asyncio.timeout(self.settings.final_sync_s):
                await self._ready.wait()
                for source in self.sources:
                    await asyncio.to_thread(self.control.sync, source.database)
        except (ControlError, TimeoutError) as error:
            why = error.message if isinstance(error, ControlError) else "it does not run, or hangs"
            logger.warning("litestream is stopped, and may leave something behind: %s", why)
            return False
        return True

    async def _end(self, process: asyncio.subprocess.Process, upload: bool) -> bool:
        assert self._log is not None
        with contextlib.suppress(ProcessLookupError):
            process.terminate() if upload else process.kill()
        try:
            code = await asyncio.wait_for(process.wait(), self.settings.final_sync_s + LAST_WORDS_S)
        except TimeoutError:
            process.kill()
            code = await process.wait()
        await self._log.finish()
        return code == 0 and not self._log.left_behind

    def nudge(self) -> None:
        """Have it begin anew, at once. After an outage it means to wait, for minutes perhaps, and an answer that was
        lost on its way it awaits for a day. Nothing is lost: what it has taken up lies beside the file."""
        self._awake.set()
        self._kill()

    def rest(self) -> None:
        """End it, and do not start it again before it is nudged."""
        self._awake.clear()
        self._kill()

    @property
    def resting(self) -> bool:
        return not self._awake.is_set()

    def _kill(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._nudged = True
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    # --- running ----------------------------------------------------------------------------------------------------

    async def _keep_running(self) -> None:
        deaths = 0
        while True:
            if self.resting:
                self.problem = "litestream rests until the bucket answers"
                await self._awake.wait()
            began = time.monotonic()
            try:
                self.checkpoint()
                await self._run()
            except (PerdureError, OSError) as error:
                self.problem = error.message if isinstance(error, PerdureError) else str(error)
            self._ready.clear()
            self.restarts += 1
            if self._nudged:
                self._nudged = False
                continue
            deaths = 0 if time.monotonic() - began > STEADY_S else deaths
            wait_s = BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)]
            deaths += 1
            logger.error("replication is interrupted, local work goes on: %s; next try in %g s", self.problem, wait_s)
            await asyncio.sleep(wait_s)

    async def _run(self) -> None:
        """Start the child and stay until it dies."""
        assert self._folder is not None
        assert self.lock.fd is not None
        configuration = self._folder / "litestream.yml"
        configuration.write_text(litestream.config(self.sources, self._folder / "s", self.settings))
        configuration.chmod(0o600)
        log = self._log = ChildLog()
        try:
            process = self._process = await asyncio.create_subprocess_exec(
                str(litestream.find()), "replicate", "-config", str(configuration), "-no-expand-env",
                env=litestream.beside_us(litestream.environment(self.credentials)),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=log.writing_end,
                pass_fds=[self.lock.fd, *log.ends],  # who holds the lock lives as long as either of us
                start_new_session=True,  # Ctrl-C is for us: it is stopped in order
                preexec_fn=litestream.end_with_parent(signal.SIGKILL),  # see 4
            )  # fmt: skip
        except BaseException:
            log.close()
            raise
        log.start()
        self.lock.note(process.pid)
        await self._until_it_answers(process)
        self.problem = None
        self._ready.set()
        if self.on_ready is not None:
            self.on_ready()
        watching = asyncio.create_task(self._watch_health(process), name="perdure-litestream-health")
        try:
            code = await process.wait()
        finally:
            watching.cancel()
        await log.finish()
        self.problem = f"litestream ended with {code}" + (f": {log.said}" if log.said else "")

    async def _until_it_answers(self, process: asyncio.subprocess.Process) -> None:
        loop, control = asyncio.get_running_loop(), self.control
        deadline = loop.time() + START_S
        while process.returncode is None:
            try:
                await asyncio.to_thread(control.databases)
            except ControlError:
                if loop.time() > deadline:
                    process.kill()
                    await process.wait()
                    raise
                await asyncio.sleep(0.02)
            else:
                return

    async def _watch_health(self, process: asyncio.subprocess.Process) -> None:
        """Kill one that hangs: dead it is restarted."""
        assert self._log is not None
        silences = 0
        while silences < SILENCES:
            await asyncio.sleep(HEALTH_EVERY_S)
            try:
                await asyncio.to_thread(self.control.databases)
            except ControlError as error:
                silences += 1
                self._log.said = error.message
            else:
                silences = 0
        with contextlib.suppress(ProcessLookupError):
            process.kill()

    def _leave(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        self.lock.release()
