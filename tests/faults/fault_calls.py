"""The system calls that SQLite makes, counted, and failing where one wishes.

SQLite lets a test replace them (`xSetSystemCall`), so everything above is as in production: the same files, the same
retries, the same error codes. Only syncs are not among them; see `fault_syncs.py`.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import apsw

_PATH, _INT, _LONG, _POINTER = ctypes.c_char_p, ctypes.c_int, ctypes.c_long, ctypes.c_void_p


class Call(NamedTuple):
    """One call: what it does, to which file: db, db-wal, db-shm, db-journal, other."""

    kind: str
    file: str


class Signature(NamedTuple):
    kind: str
    result: Any
    arguments: tuple[Any, ...]


SIGNATURES = {
    "open": Signature("open", _INT, (_PATH, _INT, _INT)),
    "pread64": Signature("read", _LONG, (_INT, _POINTER, _LONG, _LONG)),
    "pwrite64": Signature("write", _LONG, (_INT, _POINTER, _LONG, _LONG)),
    "pread": Signature("read", _LONG, (_INT, _POINTER, _LONG, _LONG)),
    "pwrite": Signature("write", _LONG, (_INT, _POINTER, _LONG, _LONG)),
    "ftruncate": Signature("truncate", _INT, (_INT, _LONG)),
    "unlink": Signature("delete", _INT, (_PATH,)),
    "fstat": Signature("look", _INT, (_INT, _POINTER)),
    "fcntl": Signature("lock", _INT, (_INT, _INT, _LONG)),
    "mmap": Signature("map", _POINTER, (_POINTER, _LONG, _INT, _INT, _INT, _LONG)),
}
LOCKS = (fcntl.F_SETLK, fcntl.F_SETLKW)

ERRORS = {
    "open": (errno.EMFILE, errno.EACCES, errno.ENOSPC, errno.EIO, errno.EROFS),
    "read": (errno.EIO,),
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS),
    "truncate": (errno.EIO, errno.ENOSPC),
    "delete": (errno.EACCES, errno.EIO),
    "look": (errno.EIO,),
    "lock": (errno.EACCES, errno.ENOLCK, errno.EIO),
    "map": (errno.ENOMEM,),
}
"""What each kind may fail with; the first one is the likeliest."""

Fault = Callable[[int, Call], int]
"""Gives the error that call number n is to fail with; 0 for none."""


class SystemCalls:
    """See the module. Use as a context manager; `calls` are those that were made, `fault` decides."""

    def __init__(self, fault: Fault = lambda number, call: 0) -> None:
        self.fault = fault
        self.calls: list[Call] = []
        self.failed: list[tuple[int, Call, int]] = []
        self._files: dict[int, str] = {}
        self._kept: list[Any] = []
        self._vfs: apsw.VFS | None = None

    def __enter__(self) -> Self:
        self._vfs = apsw.VFS("perdure-faults", base="unix")
        for name, signature in SIGNATURES.items():
            address = self._vfs.xGetSystemCall(name)
            if address:
                kind = ctypes.CFUNCTYPE(signature.result, *signature.arguments, use_errno=True)
                replaced = kind(self._replacement(signature, kind(address)))
                self._kept.append((replaced, name, address))
                self._vfs.xSetSystemCall(name, ctypes.cast(replaced, _POINTER).value or 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._vfs is not None
        for _, name, address in self._kept:
            self._vfs.xSetSystemCall(name, address)
        self._vfs.unregister()

    def _replacement(self, signature: Signature, real: Any) -> Callable[..., Any]:
        kind = signature.kind
        failure = ctypes.c_void_p(-1).value if signature.result is _POINTER else -1

        def replacement(*arguments: Any) -> Any:
            file = self._file(kind, arguments)
            if kind != "lock" or (arguments[1] in LOCKS and _acquires(arguments[2])):
                number = len(self.calls)
                self.calls.append(Call(kind, file))
                error = self.fault(number, self.calls[-1])
                if error:
                    self.failed.append((number, self.calls[-1], error))
                    ctypes.set_errno(error)
                    return failure
            result = real(*arguments)
            if kind == "open" and result >= 0:
                self._files[result] = file
            return result

        return replacement

    def _file(self, kind: str, arguments: tuple[Any, ...]) -> str:
        if kind in ("open", "delete"):
            return _short(arguments[0])
        return self._files.get(arguments[4] if kind == "map" else arguments[0], "other")


class _Lock(ctypes.Structure):
    """The beginning of `struct flock` on Linux."""

    _fields_ = [("type", ctypes.c_short), ("whence", ctypes.c_short)]


def _acquires(pointer: int) -> bool:
    return bool(_Lock.from_address(pointer).type != fcntl.F_UNLCK)


def _short(path: bytes) -> str:
    name = Path(path.decode()).name
    return name[name.index("db") :] if ".db" in name else "other"
