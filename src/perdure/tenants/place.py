"""The note beside a local file that says what of the tenant is in the bucket: by it a file is known to be the newest.

It is written to the disk before anything is committed under an epoch, and again once that is over.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path

import msgspec


class Note(msgspec.Struct, frozen=True):
    """What is noted beside a local file: the epoch it was last run under, where, by whom, and whether all of it is
    in the bucket. `request` is the newest that had been read then."""

    target: str
    epoch: int
    holder: str
    complete: bool
    request: int = 0
    folder: str = ""
    """Where the file was, on which machine: a copy of the folder is not where its tenants were run."""

    def is_of(self, path: Path) -> bool:
        """Say whether it was written where `path` is, and not copied there."""
        return self.folder == whereabouts(path)

    def is_newest(self, path: Path, epoch: int) -> bool:
        """Say whether nobody has run the tenant since, with `epoch` the newest in the bucket. A copy may be from the
        middle of its epoch."""
        return self.is_of(path) and self.epoch >= epoch


def read_note(path: Path, target: str) -> Note | None:
    """Read the note beside a file; None when there is none for this place."""
    note = read_any(path)
    return note if note is not None and note.target == target else None


def read_any(path: Path) -> Note | None:
    """Read the note beside a file, whatever place it is for."""
    try:
        return msgspec.json.decode(_note_path(path).read_bytes(), type=Note)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def write_note(path: Path, note: Note) -> None:
    """Write it in one step, and to the disk: what is committed after it must not be taken for older."""
    place = _note_path(path)
    fresh = place.with_name(f"{place.name}.new")
    with fresh.open("wb") as file:
        file.write(msgspec.json.encode(note))
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, place)


def whereabouts(path: Path) -> str:
    return f"{platform.node()}:{path.parent}"


def _note_path(path: Path) -> Path:
    return path.with_name(f".{path.name}-place")
