"""Records what SQLite does to a folder: every write, truncation, sync, new name and deletion, in order.

A VFS that is the default one while it records, so that the engine runs unchanged. It passes everything on, but for
syncs: the files are never asked for again.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import apsw
from power_disk import Change, Create, Delete, Sync, SyncFolder, Truncate, Write

_names = (f"power-{os.getpid()}-{number}" for number in itertools.count())

SYNCS_FOLDER = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_SUPER_JOURNAL | apsw.SQLITE_OPEN_WAL
"""The first sync of these, if they may be created, is followed by one of the folder: see `unixSync` in SQLite's
os_unix.c."""


class Mark(NamedTuple):
    """Something that someone was told, or did, at this moment."""

    claim: Any


class Phase(NamedTuple):
    """What is under way from here on."""

    name: str


Step = Change | Mark | Phase


class Recorder(apsw.VFS):
    """See the module. `steps` is the record. `fails` says of each sync of a commit whether it reports an error."""

    lies: Callable[[str], bool] = staticmethod(lambda name: False)
    """Says whether a file's syncs are none, though they report that all is well; "" is the folder."""

    def __init__(
        self,
        folder: Path,
        *,
        fails: Callable[[], bool] = lambda: False,
    ) -> None:
        self.folder = folder
        self.fails = fails
        self.steps: list[Step] = []
        present = sorted(folder.iterdir()) if folder.exists() else []
        self.image = {path.name: path.read_bytes() for path in present if path.is_file()}
        self.known = {name: number for number, name in enumerate(self.image)}
        self._numbers = itertools.count(len(self.known))
        self.vfs_name = next(_names)

    def __enter__(self) -> Self:
        self.base = apsw.vfs_names()[0]
        super().__init__(self.vfs_name, base=self.base, makedefault=True)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.unregister()

    def mark(self, *claim: Any) -> None:
        self.steps.append(Mark(claim))

    def phase(self, name: str) -> None:
        self.steps.append(Phase(name))

    # --- what SQLite asks for ---------------------------------------------------------------------------------------

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        if name is None:  # a temporary file
            return apsw.VFSFile(self.base, name, flags)
        path = Path(name.filename() if isinstance(name, apsw.URIFilename) else name)
        existed = path.exists()
        file = RecordedFile(self, path, name, flags)
        if not existed and path.exists():
            self.known[path.name] = next(self._numbers)
            self.steps.append(Create(path.name, self.known[path.name]))
        file.number = self.known[path.name]
        return file

    def xDelete(self, filename: str, syncdir: bool) -> None:
        super().xDelete(filename, syncdir)
        name = Path(filename).name
        self.known.pop(name, None)
        self.steps.append(Delete(name))
        if syncdir and not self.lies(""):
            self.steps.append(SyncFolder())


class RecordedFile(apsw.VFSFile):
    number: int

    def __init__(self, recorder: Recorder, path: Path, name: Any, flags: list[int]) -> None:
        super().__init__(recorder.base, name, flags)
        self.recorder = recorder
        self.name = path.name
        self.is_log = bool(flags[0] & apsw.SQLITE_OPEN_WAL)
        self.written = False
        self.syncs_folder = bool(flags[0] & apsw.SQLITE_OPEN_CREATE and flags[0] & SYNCS_FOLDER)

    def xLock(self, level: int) -> None:
        try:
            super().xLock(level)
        except apsw.IOError as error:  # of a read-only file when it is closed: SQLite ignores it, apsw would raise it
            raise apsw.BusyError from error

    def xWrite(self, data: bytes, offset: int) -> None:
        super().xWrite(data, offset)
        self.recorder.steps.append(Write(self.number, offset, bytes(data)))
        self.written = True

    def xTruncate(self, newsize: int) -> None:
        super().xTruncate(newsize)
        self.recorder.steps.append(Truncate(self.number, newsize))

    def xSync(self, flags: int) -> None:
        recorder = self.recorder
        if recorder.lies(self.name):
            return
        # Those of checkpoints do not fail here: SQLite ignores it after a commit, and apsw would raise it nevertheless.
        commits, self.written = self.written and self.is_log, False
        if commits and recorder.fails():
            recorder.steps.append(Sync(self.number, failed=True))
            raise apsw.exception_for(apsw.SQLITE_IOERR_FSYNC)
        recorder.steps.append(Sync(self.number))
        if self.syncs_folder and not recorder.lies(""):
            recorder.steps.append(SyncFolder())
            self.syncs_folder = False
