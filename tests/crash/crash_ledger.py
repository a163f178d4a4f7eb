"""What is noted outside the database: effects of activities, and what callers asked and were told.

One JSON line each, appended by one write, so that lines of processes do not mix and a kill leaves no half line.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec

from perdure.codec.encryption import AesGcmCodec

SITE = "PERDURE_CRASH_SITE"


class Places:
    """Where things are in the folder of one site."""

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.database = self.folder / "crash.db"
        self.effects = self.folder / "effects"
        self.words = self.folder / "words"
        self.tokens = self.folder / "tokens"
        self.flags = self.folder / "flags"
        self.log = self.folder / "workers.log"

    @classmethod
    def here(cls) -> Places:
        return cls(os.environ[SITE])

    @staticmethod
    def codec() -> AesGcmCodec | None:
        """Give the codec of this site, if it has one."""
        return AesGcmCodec.from_environment() if os.environ.get("PERDURE_KEYS") else None


class Effect(msgspec.Struct, frozen=True):
    """An attempt took effect."""

    id: str
    key: str
    """Says which step of the execution it is: the same in each of its attempts, and in no other."""
    idempotency: str
    """`execution:run:seq`, as the attempt was told."""
    activity: str
    attempt: int
    pid: int
    committed: bool | None = None
    """Whether another connection saw the activity's schedule in the file at that moment; None: nobody looked."""

    @property
    def step(self) -> tuple[str, int, int]:
        id, run, seq = self.idempotency.rsplit(":", 2)
        return id, int(run), int(seq)


class Word(msgspec.Struct, frozen=True):
    """A caller asks something of an execution, or was told that it is done."""

    told: bool
    what: str
    id: str
    name: str = ""
    """Of the workflow that is started, or who sends a signal."""
    value: Any = None
    at_us: int = 0


class Token(msgspec.Struct, frozen=True):
    """An activity waits for the outside."""

    token: str
    key: str


class Doom(msgspec.Struct, frozen=True):
    """What is done to a process at an instant; for people who look for the cause of a violation."""

    what: str
    pid: int
    at_us: int


def append(path: Path, line: msgspec.Struct) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        os.write(fd, msgspec.json.encode(line) + b"\n")
    finally:
        os.close(fd)


def now_us() -> int:
    return time.time_ns() // 1000


L = TypeVar("L")


class Tail(Generic[L]):
    """Reads the lines of a ledger, each time from where the last look ended."""

    def __init__(self, path: Path, type: type[L]) -> None:
        self.path = path
        self._type = type
        self._offset = 0

    def read(self) -> list[L]:
        if not self.path.exists():
            return []
        with self.path.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]  # the rest is being written
        self._offset += len(whole)
        return [msgspec.json.decode(line, type=self._type) for line in whole.splitlines()]
