"""Who is the runner: an OS lock that the kernel drops when its process dies, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

from perdure.errors import StoreError


class RunnerLock:
    """The exclusive right to advance the executions of one file, held through `<file>-lock`.

    `flock` belongs to the open file, so two engines in one process exclude each other as well. A forked child gives
    its copy up at once, so that a child which outlives us does not keep the lock. The file's content names the
    holder, for people.
    """

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + "-lock")
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        return self._fd is not None

    def acquire(self, description: str) -> bool:
        """Try to become the runner; give whether it worked. Never waits."""
        if self._fd is not None:
            return True
        try:
            # never through a link, which may lie beside a stranger's file: what it leads to would be cut
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            hint = "run as the user whose file it is"
            raise StoreError(f"{self.path} cannot be opened: {error.strerror}", hint=hint) from error
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        if not self._same_file(fd):  # the file was deleted or replaced between open and lock
            os.close(fd)
            return False
        with contextlib.suppress(OSError):  # a full disk must not keep us from running
            os.ftruncate(fd, 0)
            os.pwrite(fd, description.encode(), 0)
        self._fd = fd
        _held.add(self)
        return True

    def release(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):
                os.ftruncate(fd, 0)
            os.close(fd)

    def holder(self) -> str:
        """Give what the holder wrote about itself; empty when nobody holds the lock."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except PermissionError:
            return f"perhaps a process of another user: {self.path} may not be read"
        except OSError:
            return ""
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return os.pread(fd, 4096, 0).decode(errors="replace") or "a process"
        else:
            return ""
        finally:
            os.close(fd)

    def _same_file(self, fd: int) -> bool:
        try:
            return os.path.samestat(os.fstat(fd), os.stat(self.path))
        except OSError:
            return False

    def _forget(self) -> None:
        if self._fd is not None:
            fd, self._fd = self._fd, None
            with contextlib.suppress(OSError):
                os.close(fd)


_held: weakref.WeakSet[RunnerLock] = weakref.WeakSet()
"""Those that a fork copies. What is registered for forks stays for ever, so it is one function for all locks."""


def _forget_all() -> None:
    for lock in list(_held):
        lock._forget()


os.register_at_fork(after_in_child=_forget_all)
