"""A disk that has lost its power: what may be left of a folder, given what was written to it and what was synced.

The rules are those that POSIX gives and no more, which is less than what most file systems do:

1. What was written to a file before its last sync is there. Of what was written since, any part may be there: each
   piece is kept, dropped, torn, read as zeros or as garbage, whatever came before or after it. Bytes that no write has
   touched keep their value, as SQLite assumes (`SQLITE_IOCAP_POWERSAFE_OVERWRITE`).
2. A name is there or gone for certain only once its folder was synced: until then a new file may be missing and a
   deleted one may be back, whether their contents were synced or not.
3. A sync that reports an error may have written any part, and what it has not written never will be by a later one.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

SECTOR_BYTES = 512
PAGE_BYTES = 4096
Image = dict[str, bytes]
"""Contents of files by name."""


# --- what is done to a disk -----------------------------------------------------------------------------------------


class Create(NamedTuple):
    name: str
    file: int


class Delete(NamedTuple):
    name: str


class SyncFolder(NamedTuple):
    pass


class Write(NamedTuple):
    file: int
    offset: int
    data: bytes


class Truncate(NamedTuple):
    file: int
    size: int


class Sync(NamedTuple):
    file: int
    failed: bool = False


Change = Create | Delete | SyncFolder | Write | Truncate | Sync


# --- how the power goes ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Loss:
    """How much of what was not synced is left: each piece of a write with probability `kept`, and what is not kept
    is garbage or zeros instead of what was there before with probability `spoiled`. `piece_bytes` 0 is a whole
    write. `in_order`: what was written first is kept, up to some moment."""

    kept: float
    piece_bytes: int = SECTOR_BYTES
    spoiled: float = 0.0
    in_order: bool = False

    @classmethod
    def draw(cls, choose: random.Random) -> Loss:
        """Draw one; all and nothing are likely, since most bugs show in them."""
        piece_bytes = choose.choice([0, SECTOR_BYTES, PAGE_BYTES])
        match choose.randrange(6):
            case 0:
                return cls(0.0)
            case 1:
                return cls(1.0, 0)
            case 2:
                return cls(1.0, piece_bytes, in_order=True)
            case 3:
                return cls(choose.choice([0.03, 0.97]), piece_bytes)
            case _:
                return cls(choose.random(), piece_bytes, choose.choice([0.0, 0.2, 0.7]))


NOTHING_LEFT = Loss(0.0)
ALL_LEFT = Loss(1.0, 0)


class File:
    """One file, whatever its name: what is on the disk for certain, and what was done since."""

    def __init__(self, content: bytes = b"") -> None:
        self.durable = bytearray(content)
        self.pending: list[Write | Truncate] = []

    def sync(self) -> None:
        for change in self.pending:
            _apply(self.durable, change)
        self.pending.clear()

    def sync_in_vain(self, choose: random.Random) -> None:
        self.durable = bytearray(self.left(Loss.draw(choose), choose))
        self.pending.clear()

    def left(self, loss: Loss, choose: random.Random) -> bytes:
        content = bytearray(self.durable)
        for change in _survivors(self.pending, loss, choose):
            _apply(content, change)
        return bytes(content)


def _survivors(pending: list[Write | Truncate], loss: Loss, choose: random.Random) -> Iterator[Write | Truncate]:
    last = choose.randrange(len(pending) + 1) if loss.in_order and pending else len(pending)
    for number, change in enumerate(pending):
        if number > last:
            return
        if loss.in_order and number == last:  # the one under way is torn
            yield from _torn(change, choose)
        elif loss.kept == 1.0:
            yield change
        elif isinstance(change, Truncate):
            if choose.random() < loss.kept:
                yield change
        else:
            yield from _pieces(change, loss, choose)


def _torn(change: Write | Truncate, choose: random.Random) -> Iterator[Write]:
    if isinstance(change, Write):
        yield change._replace(data=change.data[: choose.randrange(len(change.data) + 1)])


def _pieces(write: Write, loss: Loss, choose: random.Random) -> Iterator[Write]:
    step = loss.piece_bytes or len(write.data)
    begin = 0
    while begin < len(write.data):
        end = min(begin + step - (write.offset + begin) % step, len(write.data))  # sectors lie where they lie
        piece = Write(write.file, write.offset + begin, write.data[begin:end])
        if choose.random() < loss.kept:
            yield piece
        elif loss.spoiled and choose.random() < loss.spoiled:
            size = end - begin
            yield piece._replace(data=bytes(size) if choose.random() < 0.5 else choose.randbytes(size))
        begin = end


def _apply(content: bytearray, change: Write | Truncate) -> None:
    if isinstance(change, Truncate):
        del content[change.size :]
        content.extend(bytes(change.size - len(content)))
    else:
        content.extend(bytes(max(change.offset - len(content), 0)))
        content[change.offset : change.offset + len(change.data)] = change.data


class Disk:
    """A folder on a disk. `apply` follows what is done to it; `cut` gives what may be left when the power goes now."""

    def __init__(self, image: Image, choose: random.Random | None = None) -> None:
        self.choose = choose or random.Random(0)
        """Decides what a sync that fails leaves; at once, since that cannot be undone by a later one."""
        self.files: dict[int, File] = {number: File(content) for number, content in enumerate(image.values())}
        self.durable: dict[str, int] = {name: number for number, name in enumerate(image)}
        self.pending: dict[str, list[int | None]] = {}
        """By name, the files that it has stood for since the folder was synced; None for none."""

    def apply(self, change: Change) -> None:
        match change:
            case Write(file) | Truncate(file):
                self.files[file].pending.append(change)
            case Sync(file, failed=True):
                self.files[file].sync_in_vain(self.choose)
            case Sync(file):
                self.files[file].sync()
            case Create(name, file):
                self.files.setdefault(file, File())
                self.pending.setdefault(name, []).append(file)
            case Delete(name):
                self.pending.setdefault(name, []).append(None)
            case SyncFolder():
                self._sync_folder()

    def apply_all(self, changes: Iterable[Change]) -> None:
        for change in changes:
            self.apply(change)

    def cut(self, loss: Loss, choose: random.Random) -> Image:
        """Give one folder that may be found when the power is back."""
        left: Image = {}
        for name in {**self.durable, **self.pending}:
            stages = [self.durable.get(name), *self.pending.get(name, [])]
            match loss.kept:
                case 0.0:
                    file = stages[0]
                case 1.0:
                    file = stages[-1]
                case _:
                    file = choose.choice(stages)
            if file is not None:
                left[name] = self.files[file].left(loss, choose)
        return left

    def _sync_folder(self) -> None:
        for name, stages in self.pending.items():
            if stages[-1] is None:
                self.durable.pop(name, None)
            else:
                self.durable[name] = stages[-1]
        self.pending.clear()
