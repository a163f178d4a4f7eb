"""Keeps one Litestream running: started, restarted when it dies, stopped after a last upload.

1. Never two on the same files: a lock that the child inherits says that one runs; one that outlived its parent is ended
   first.
2. Before every start the log of each database is moved into its file (a TRUNCATE checkpoint): one that begins anew
   then starts with a full snapshot. Without that it can miss pages, and nothing would tell.
3. Nothing here waits for the bucket. Local work goes on whatever happens to the child.

              start                      it died
    stopped ────────▶ running ─────────────────────────▶ waiting ──(backoff, checkpoint)──▶ running
       ▲                 │ stop: SIGTERM, it uploads the rest, SIGKILL after `final_sync_s`
       └─────────────────┘
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from perdure.errors import PerdureError
from perdure.replication import litestream
from perdure.replication.control import Control, ControlError
from perdure.replication.litestream import Settings, Source

logger = logging.getLogger("perdure.replication")

BACKOFF_S = (0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_S = 30.0
"""Running so long, its next death is a new trouble and not the same one."""
PATIENCE_S = 5.0
"""How long one that outlived its parent gets to end, and how long a new one gets to open its socket."""


class AnotherLitestream(PerdureError):
    """A Litestream that cannot be ended replicates the same files."""

    hint = "end it first; two on one file lose data"


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
        self.lock = lock
        self.checkpoint = checkpoint
        self.settings = settings or Settings()
        self.credentials = dict(credentials or {})
        self.on_ready: Callable[[], None] | None = None
        """Called when a new one answers: what the one before has said does not count any more."""
        self.restarts = 0
        self.problem: str | None = None
        """What is wrong now; None while it runs."""
        self.said: str | None = None
        """The last error in its log."""
        self._process: asyncio.subprocess.Process | None = None
        self._lock_fd: int | None = None
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
        await self._take_lock()
        # a short path: that of a unix socket may not have more than about 100 characters
        self._folder = Path(tempfile.mkdtemp(prefix="perdure-"))
        for source in self.sources:
            shutil.rmtree(source.meta, ignore_errors=True)  # of another replica: this one is new
        self._task = asyncio.create_task(self._keep_running(), name="perdure-litestream")

    async def ready(self) -> None:
        """Wait until it answers on its socket."""
        await self._ready.wait()

    async def stop(self) -> bool:
        """End it after it has uploaded what is left; give whether it ended by itself."""
        clean = True
        task, self._task = self._task, None
        process = self._process
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                await asyncio.wait_for(process.wait(), self.settings.final_sync_s + PATIENCE_S)
            except TimeoutError:
                clean = False
                await self.kill()
        self._process = None
        self._leave()
        return clean

    async def kill(self) -> None:
        """End it at once: for one whose writes must not go on."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    # --- running ----------------------------------------------------------------------------------------------------

    async def _keep_running(self) -> None:
        deaths = 0
        while True:
            began = time.monotonic()
            try:
                self.checkpoint()
                await self._run()
            except (PerdureError, OSError) as error:
                self.problem = str(error)
            self._ready.clear()
            deaths = 0 if time.monotonic() - began > STEADY_S else deaths
            wait_s = BACKOFF_S[min(deaths, len(BACKOFF_S) - 1)]
            deaths += 1
            logger.error("replication is interrupted, local work goes on: %s; next try in %g s", self.problem, wait_s)
            await asyncio.sleep(wait_s)
            self.restarts += 1

    async def _run(self) -> None:
        """Start the child and stay until it dies."""
        assert self._folder is not None
        assert self._lock_fd is not None
        configuration = self._folder / "litestream.yml"
        configuration.write_text(litestream.config(self.sources, self._folder / "s", self.settings))
        process = self._process = await asyncio.create_subprocess_exec(
            str(litestream.find()), "replicate", "-config", str(configuration), "-no-expand-env",
            env=litestream.environment(self.credentials),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[self._lock_fd],  # who holds the lock lives as long as either of us
            start_new_session=True,  # Ctrl-C is for us: it is stopped in order
            preexec_fn=_end_with_parent(),
        )  # fmt: skip
        self._note(process.pid)
        reading = asyncio.create_task(self._read_log(process))
        try:
            await self._until_it_answers(process)
            self.problem = None
            self._ready.set()
            if self.on_ready is not None:
                self.on_ready()
            code = await process.wait()
        finally:
            reading.cancel()
        self.problem = f"litestream ended with {code}" + (f": {self.said}" if self.said else "")

    async def _until_it_answers(self, process: asyncio.subprocess.Process) -> None:
        loop, control = asyncio.get_running_loop(), self.control
        deadline = loop.time() + PATIENCE_S
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

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        """Pass its errors on to our log, and remember the last one."""
        assert process.stderr is not None
        while line := await process.stderr.readline():
            with contextlib.suppress(ValueError):
                entry = json.loads(line)
                level, message = entry.get("level"), f"{entry.get('msg')} {entry.get('error', '')}".strip()
                if level in ("ERROR", "error"):
                    self.said = message
                logger.log(_LEVELS.get(level, logging.DEBUG), "litestream: %s", message)

    # --- the lock ---------------------------------------------------------------------------------------------------

    async def _take_lock(self) -> None:
        """Take the lock; end a child that outlived the process which had started it. Raises `AnotherLitestream`."""
        fd = os.open(self.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + 2 * PATIENCE_S
        asked = False
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = _read_pid(fd)
                if time.monotonic() > deadline:
                    os.close(fd)
                    what = f"litestream (process {pid}) replicates the files in {self.lock.parent} already"
                    raise AnotherLitestream(what) from None
                if pid is not None:
                    # a last upload of its own is worth less than not to wait for it: ours begins with a snapshot
                    _end(pid, signal.SIGKILL if asked else signal.SIGTERM)
                    asked = time.monotonic() > deadline - PATIENCE_S
                await asyncio.sleep(0.05)
            else:
                self._lock_fd = fd
                return

    def _note(self, pid: int) -> None:
        assert self._lock_fd is not None
        os.ftruncate(self._lock_fd, 0)
        os.pwrite(self._lock_fd, str(pid).encode(), 0)

    def _leave(self) -> None:
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
        if self._lock_fd is not None:
            os.close(self._lock_fd)
            self._lock_fd = None


def _end_with_parent() -> Callable[[], None] | None:
    """Have the kernel ask the child to stop when we die: it uploads the rest and ends. Elsewhere than on Linux it lives on
    until the next of ours starts and ends it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork nothing may be imported
    return lambda: prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


_PR_SET_PDEATHSIG = 1
_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.DEBUG}


def _read_pid(fd: int) -> int | None:
    text = os.pread(fd, 20, 0)
    return int(text) if text.isdigit() else None


def _end(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
