"""The lock that says that a Litestream runs for some files: its supervisor and the child hold it together.

The child inherits the open file, so the lock stands for as long as either lives. Its content names both. A child whose
supervisor has died is ended by whoever wants the lock next; one that is looked after is left alone.

A child that was there before the file was handed to it has no part in the lock. So who takes one that is free looks at
its content too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import subprocess
import time
from pathlib import Path

from perdure.errors import PerdureError

PATIENCE_S = 5.0
"""How long a child that outlived its supervisor gets to end, before it is killed."""
TRY_EVERY_S = 0.05


class AnotherLitestream(PerdureError):
    """A Litestream replicates the same files, and somebody looks after it."""

    hint = "end it first; two on one file lose data"


class ChildLock:
    """See the module."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd: int | None = None

    async def take(self) -> None:
        """Take the lock; end a child that outlived its supervisor first. Raises `AnotherLitestream`."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            await self._wait(fd)
        except BaseException:
            os.close(fd)
            raise
        self.fd = fd

    def note(self, pid: int) -> None:
        """Write down which child has the lock with us."""
        assert self.fd is not None
        os.ftruncate(self.fd, 0)
        os.pwrite(self.fd, f"{pid} {os.getpid()}".encode(), 0)

    def release(self) -> None:
        if self.fd is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, 0)
            os.close(self.fd)
            self.fd = None

    async def _wait(self, fd: int) -> None:
        began = time.monotonic()
        while True:
            free = _lock(fd)
            pid, parent = _read(fd)
            if free and not (pid and await asyncio.to_thread(_outlived, pid, parent)):
                return
            waited = time.monotonic() - began
            if waited > 2 * PATIENCE_S:
                where = self.path.parent
                raise AnotherLitestream(f"litestream (process {pid}) replicates the files in {where} already") from None
            if pid and (free or await asyncio.to_thread(_outlived, pid, parent)):
                # not in order: it may have read a commit that its parent was killed in (see `supervisor.py`)
                _end(pid, signal.SIGKILL)
            await asyncio.sleep(TRY_EVERY_S)


def _lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(fd: int) -> tuple[int, int]:
    """Give the process ids of the child and of its supervisor; 0 for what is not there."""
    pid, _, parent = os.pread(fd, 40, 0).decode(errors="replace").partition(" ")
    return (int(pid), int(parent)) if pid.isdigit() and parent.isdigit() else (0, 0)


def _outlived(pid: int, parent: int) -> bool:
    """Say whether a process is a Litestream whose parent is not `parent` any more."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        now = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except (OSError, ValueError):
        listed = _listed(pid).partition(" ")
        now, command = int(listed[0]) if listed[0].isdigit() else parent, listed[2].encode()
    return b"litestream" in command and now != parent


def _listed(pid: int) -> str:
    """Ask `ps`, where there is no /proc, for a process's parent and command; empty when it is gone."""
    if Path("/proc/self").exists():
        return ""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        asked = ["ps", "-o", "ppid=,command=", "-p", str(pid)]
        return subprocess.run(asked, capture_output=True, text=True, timeout=PATIENCE_S, check=False).stdout.strip()
    return ""


def _end(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
