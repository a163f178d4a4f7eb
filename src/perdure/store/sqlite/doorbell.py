"""Waking other processes that have the same file open, without polling it.

Each listener makes a named pipe in `<file>-wake/`, `runner-…` or `client-…`. Ringing writes one byte to each pipe
of a role; the byte says nothing but "look". A pipe without a reader belongs to a dead process and is removed.
Losing a ring is harmless: everyone looks now and then anyway.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import time
import uuid
from pathlib import Path
from typing import Literal

Role = Literal["runner", "client"]
SETTLED_NS = 100_000_000


class Doorbell:
    """One process's end of it. `listen` gives a file descriptor that turns readable on a ring."""

    def __init__(self, database: Path) -> None:
        self.folder = database.with_name(database.name + "-wake")
        self.fd: int | None = None
        self._own: Path | None = None
        self._pipes: dict[str, int] = {}
        self._seen = -1

    def listen(self, role: Role) -> int | None:
        """Start listening; give the descriptor, or None where the file system has no named pipes."""
        try:
            self._own = self._make_pipe(f"{role}-{os.getpid()}-{uuid.uuid4().hex[:8]}")
            # read and write: a pipe that only we hold open does not read as closed
            self.fd = os.open(self._own, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            self.close()
            return None
        return self.fd

    def _make_pipe(self, name: str) -> Path:
        path = self.folder / name
        for tries_left in 2, 1, 0:
            self.folder.mkdir(mode=0o700, exist_ok=True)
            try:
                os.mkfifo(path, 0o600)
            except FileNotFoundError:  # another process left last and took the folder with it
                if not tries_left:
                    raise
            else:
                break
        return path

    def answer(self) -> None:
        """Take the rings so far."""
        if self.fd is not None:
            with contextlib.suppress(BlockingIOError):
                while len(os.read(self.fd, 4096)) == 4096:
                    pass

    def ring(self, role: Role) -> int:
        """Wake every listener of `role`; give how many there were."""
        self._refresh()
        woken = 0
        for name in [name for name in self._pipes if name.startswith(role)]:
            try:
                os.write(self._pipes[name], b"!")
                woken += 1
            except BlockingIOError:
                woken += 1  # its pipe is full of rings already
            except OSError:
                self._drop(name)
        return woken

    def remove_stale(self) -> None:
        """Remove the pipes of processes that died."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self.folder):
                self._remove_stale(name)

    def close(self) -> None:
        for fd in self._pipes.values():
            os.close(fd)
        self._pipes.clear()
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        if self._own is not None:
            with contextlib.suppress(OSError):
                self._own.unlink()
            with contextlib.suppress(OSError):
                self.folder.rmdir()  # only the last one out succeeds
            self._own = None

    def _refresh(self) -> None:
        """Open the pipes that came since the last look; the folder's change time tells whether there are any."""
        try:
            changed = os.stat(self.folder).st_mtime_ns
            if changed == self._seen:
                return
            names = set(os.listdir(self.folder))
        except OSError:
            names, changed = set(), -1
        # a change in the same tick of the file system's clock would not show
        self._seen = changed if time.time_ns() - changed > SETTLED_NS else -1
        for name in self._pipes.keys() - names:
            os.close(self._pipes.pop(name))
        for name in names - self._pipes.keys():
            if self._own is None or name != self._own.name:
                self._open(name)

    def _open(self, name: str) -> None:
        if not self._is_pipe(name):
            return
        try:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW
            self._pipes[name] = os.open(self.folder / name, flags)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nobody reads: its process died, or is just about to open it
                self._seen = -1
                self._remove_stale(name)

    def _remove_stale(self, name: str) -> None:
        pid = name.split("-")[1] if name.count("-") == 2 else ""
        if not self._is_pipe(name) or (pid.isdecimal() and _alive(int(pid))):
            return
        with contextlib.suppress(OSError):
            (self.folder / name).unlink()

    def _is_pipe(self, name: str) -> bool:
        """Say whether it may be one of ours. The folder may have come with a stranger's file, or be a link: what else
        lies in it is neither written to nor removed."""
        try:
            return stat.S_ISFIFO(os.lstat(self.folder / name).st_mode)
        except OSError:
            return False

    def _drop(self, name: str) -> None:
        os.close(self._pipes.pop(name))
        self._remove_stale(name)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True
