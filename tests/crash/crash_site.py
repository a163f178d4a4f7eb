"""One database with its ledgers, and the processes on it: they are started, killed, stopped and let go on from here."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import random
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
from crash_ledger import SITE, Doom, Places, append, now_us

from perdure.codec.encryption import AesGcmCodec
from perdure.store.sqlite import RunnerLock

HERE = Path(__file__).parent
PATIENCE_S = 60.0


class Failed(Exception):
    """What must not be: the first line says what, the rest where it was seen."""


class Process:
    """A worker or an asker."""

    def __init__(self, kind: str, name: str, popen: subprocess.Popen[bytes]) -> None:
        self.kind = kind
        self.name = name
        self.popen = popen
        self.stopped = False
        self.expected = False
        """Whether it was made to end."""

    @property
    def pid(self) -> int:
        return self.popen.pid

    def __repr__(self) -> str:
        return f"{self.kind} {self.name} ({self.pid})"


class Site:
    """See the module. `key` encrypts the payloads; `bug` is planted in the workers (see `crash_bugs.py`)."""

    def __init__(self, folder: Path, seed: str, *, key: bytes | None = None, bug: str = "") -> None:
        self.places = Places(folder)
        self.seed = seed
        self.choose = random.Random(seed)
        self.codec = None if key is None else AesGcmCodec({"torture": key}, "torture")
        self.processes: list[Process] = []
        self.spawned = 0
        self.kills = 0
        self.stops = 0
        self.dooms: list[tuple[int, int]] = []
        """When a worker was killed, or lost the lock: from when to when, in microseconds since 1970."""
        self.endings: list[tuple[int, int]] = []
        """From when to when one ended in order."""
        self.outlived: set[int] = set()
        """Processes that lost the lock while they were stopped, and did not die: what they ran then goes on."""
        keys = {} if key is None else {"PERDURE_KEYS": f"torture:{base64.b64encode(key).decode()}"}
        self._environment = {**os.environ, SITE: str(folder), "PERDURE_CRASH_BUG": bug, **keys}
        self._lock = RunnerLock(self.places.database)

    # --- starting -----------------------------------------------------------------------------------------------------

    def spawn(self, kind: str, *options: str) -> Process:
        self.spawned += 1
        name = f"{kind}{self.spawned}"
        command = [sys.executable, HERE / f"{kind}.py", name, self.spawned, self.seed, *options]
        with self.places.log.open("ab") as log:
            popen = subprocess.Popen(
                [str(part) for part in command],
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us
            )
        process = Process(kind, name, popen)
        self.processes.append(process)
        return process

    def ready(self, process: Process) -> None:
        """Wait until it says so."""
        assert process.popen.stdout is not None
        if not select.select([process.popen.stdout], [], [], PATIENCE_S)[0]:
            raise Failed(f"{process} does not come up\n{self.log_end()}")
        if process.popen.stdout.readline() != b"ready\n":
            raise Failed(f"{process} died before it was ready\n{self.log_end()}")

    @property
    def workers(self) -> list[Process]:
        return [process for process in self.processes if process.kind == "worker"]

    @property
    def askers(self) -> list[Process]:
        return [process for process in self.processes if process.kind == "asker"]

    def runner(self) -> Process | None:
        """Give the worker that has the lock."""
        holder = self._lock.holder()
        try:
            pid = json.loads(holder)["pid"]
        except ValueError:  # nobody, or it has only just taken it
            return None
        return next((worker for worker in self.workers if worker.pid == pid), None)

    # --- what is done to them -----------------------------------------------------------------------------------------

    def pass_time(self, seconds: float) -> None:
        """Let them work; one that ends meanwhile is a failure."""
        if self.processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.processes[0].popen.wait(seconds)
        else:
            time.sleep(seconds)
        self.check_alive()

    def check_alive(self) -> None:
        for process in self.processes:
            if process.popen.poll() is not None and not process.expected:
                self.processes.remove(process)
                raise Failed(f"{process} ended by itself with {process.popen.returncode}\n{self.log_end()}")

    def kill(self, *processes: Process) -> None:
        """`kill -9`, all at once."""
        known = len(self.dooms)
        for process in processes:
            self._doom("kill", process)
            process.popen.send_signal(signal.SIGKILL)
            self.kills += 1
        for process in processes:
            self._gone(process)
        self.dooms[known:] = [(first, now_us()) for first, _ in self.dooms[known:]]  # it worked until it was dead

    def end(self, process: Process) -> None:
        """Ask it to end in order, and wait for that."""
        self._doom("end", process)
        asked = now_us()
        process.popen.send_signal(signal.SIGTERM)
        self._gone(process)
        self.endings.append((asked, now_us()))
        if process.popen.returncode != 0:
            raise Failed(f"{process} was to end in order and gave {process.popen.returncode}\n{self.log_end()}")

    def stop(self, process: Process) -> None:
        self._note("stop", process)
        process.popen.send_signal(signal.SIGSTOP)
        process.stopped = True
        self.stops += 1

    @contextlib.contextmanager
    def standing_still(self) -> Iterator[None]:
        """Stop all of them during the block. Not counted as harm: it only saves time on a busy machine."""
        for process in self.processes:
            process.popen.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            for process in self.processes:
                process.popen.send_signal(signal.SIGCONT)

    def stop_between_transactions(self, process: Process) -> None:
        """Stop it at a moment when it does not hold SQLite's write lock: with that, everyone would wait for it."""
        while True:
            self.stop(process)
            if self._may_write():
                return
            self.go_on(process)
            self.pass_time(0.005)

    def _may_write(self) -> bool:
        connection = apsw.Connection(str(self.places.database), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(200)
        try:
            connection.execute("BEGIN IMMEDIATE; ROLLBACK")
        except apsw.BusyError:
            return False
        finally:
            connection.close()
        return True

    def go_on(self, process: Process) -> None:
        self._note("go on", process)
        process.popen.send_signal(signal.SIGCONT)
        process.stopped = False

    def steal_lock(self, process: Process) -> None:
        """Take the runner's lock away behind its back. It may go on until `is_replaced`."""
        self._doom("steal", process)
        self.outlived.add(process.pid)
        self._lock.path.unlink(missing_ok=True)

    def is_replaced(self) -> None:
        """Note that the runner which lost its lock has been replaced."""
        self.dooms[-1] = (self.dooms[-1][0], now_us())

    def epoch(self) -> int:
        """Give how many runners there have been."""
        connection = apsw.Connection(str(self.places.database), flags=apsw.SQLITE_OPEN_READWRITE)
        try:
            return int(connection.execute("SELECT value FROM perdure_meta WHERE key = 'runner_epoch'").get)
        finally:
            connection.close()

    def kill_all(self) -> None:
        """Leave nothing running, whatever happened before. Counts as no kill."""
        for process in self.processes:
            self._doom("kill", process)
            process.popen.kill()
        for process in list(self.processes):
            self._gone(process)

    def _gone(self, process: Process) -> None:
        process.expected = True
        try:
            process.popen.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            raise Failed(f"{process} does not end\n{self.log_end()}") from None
        if process.popen.stdout is not None:
            process.popen.stdout.close()
        self.processes.remove(process)

    def _doom(self, what: str, process: Process) -> None:
        self._note(what, process)
        if process.kind == "worker":
            self.dooms.append((now_us(), now_us()))

    def _note(self, what: str, process: Process) -> None:
        append(self.places.folder / "dooms", Doom(f"{what} {process.kind}", process.pid, now_us()))

    # --- what they said -----------------------------------------------------------------------------------------------

    def log_end(self) -> str:
        return self.places.log.read_text(errors="replace")[-4000:] if self.places.log.exists() else ""

    def complaints(self) -> list[str]:
        """Give what the workers logged that is always a bug of ours."""
        text = self.places.log.read_text(errors="replace") if self.places.log.exists() else ""
        signs = ("please report", "InternalError", "is blocked:", "never retrieved", "never awaited")
        return [line for line in text.splitlines() if any(sign in line for sign in signs)]
