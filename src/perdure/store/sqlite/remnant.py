"""A commit that is in the log and never became true.

A commit is written to the log, synced, and only then made known to other connections, in the log's index. A process
that is killed before that leaves it behind. SQLite takes no notice and writes over it. But Litestream reads the log
itself and may have taken it for true: then what follows does not fit, and what it says of being up to date is wrong.

So who writes next, while somebody replicates, looks for one, and leaves a note for the runner before writing over it;
and the runner looks now and then, for Litestream writes a little itself. It is started anew then, and uploads
everything.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import apsw

HEADER, FRAME_HEADER = 32, 24
TRIES = 5


def begin(connection: apsw.Connection, path: Path) -> None:
    """Begin a transaction that writes, on a connection without one; note a remnant that it is going to write over."""
    for _ in range(TRIES):
        frames = _frames(connection)
        connection.execute("BEGIN IMMEDIATE")
        if beyond(path, frames) is None:
            return
        connection.execute("ROLLBACK")  # unless somebody has just committed
    connection.execute("BEGIN IMMEDIATE")
    leave_note(path)


def lies(connection: apsw.Connection, path: Path) -> tuple[int, bytes] | None:
    """Give what lies behind the true end of the log now: a remnant, or a commit that is being made. None for nothing.
    The connection must be without a transaction."""
    frames = _frames(connection)
    found = beyond(path, frames)
    return None if found is None else (frames, found)


def beyond(path: Path, frames: int) -> bytes | None:
    """Give the header of the frame that follows the first `frames` frames of the log, if it is of the same series."""
    try:
        log = os.open(f"{path}-wal", os.O_RDONLY | os.O_CLOEXEC)  # SQLite keeps no locks on it that closing would drop
    except OSError:
        return None
    try:
        header = os.pread(log, HEADER, 0)
        page, series = int.from_bytes(header[8:12], "big"), header[16:24]
        frame = os.pread(log, FRAME_HEADER, HEADER + frames * (FRAME_HEADER + page))
    finally:
        os.close(log)
    return frame if len(frame) == FRAME_HEADER and frame[8:16] == series else None


def note(path: Path) -> Path:
    """Give the path of the note that says that there was a remnant."""
    return path.with_name(f"{path.name}-remnant")


def leave_note(path: Path) -> None:
    note(path).touch(0o600)


def take_note(path: Path) -> bool:
    """Say whether there was a remnant since this was last asked."""
    with contextlib.suppress(FileNotFoundError):
        note(path).unlink()
        return True
    return False


def _frames(connection: apsw.Connection) -> int:
    frames, _ = connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)  # does nothing but tell
    return max(frames, 0)
