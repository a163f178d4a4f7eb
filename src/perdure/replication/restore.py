"""A database out of the bucket again: fetched beside its place, checked, then put there in one step.

1. What is there already is never written over, and nothing is left in its place that was not checked.
2. Where the newest state of an epoch cannot be restored, its newest that can be is; an epoch without any is passed over
   for the next best one. What is missing then is said.

    find epochs ──▶ litestream restore ──▶ integrity check ──▶ our own check of the content ──▶ rename
                        │ fails: an earlier transaction of the same epoch, then the next epoch
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from perdure.errors import PerdureError
from perdure.replication import litestream
from perdure.replication.bucket import Bucket
from perdure.replication.epochs import Candidate, Epochs
from perdure.replication.litestream import LitestreamFailed
from perdure.replication.snapshots import Snapshots
from perdure.replication.target import Target
from perdure.store.sqlite import SqliteStore

SNAPSHOT_REQUEST_S = 600.0
RESTORE_S = 3600.0
"""A restore that takes longer has come to a stop."""
LIST_GRAIN = timedelta(seconds=1)
"""Litestream lists instants in whole seconds."""


class RestoreFailed(PerdureError):
    """No copy in the bucket could be restored."""


class NothingToRestore(PerdureError):
    """There is no database below this URL."""

    hint = "check the URL; `perdure worker … --replicate URL` puts one there"


class InTheWay(PerdureError):
    """The file that is to be made is there already."""

    hint = "name another one with -o, or move it away: a restore never writes over a database"


@dataclass(slots=True)
class Restored:
    """What was restored. `size_bytes` is the file's, `executions` how many are in it, `newest_at` the instant of its
    newest event, `passed_over` says of each better copy why it was not taken."""

    path: Path
    epoch: int
    standing: str
    size_bytes: int
    executions: int
    newest_at: datetime | None
    passed_over: list[str] = field(default_factory=list)
    snapshot_at: datetime | None = None
    """The instant that it is from, where it is a snapshot."""


Progress = Callable[[str], None]


async def restore(
    target: Target,
    path: Path,
    *,
    at: datetime | None = None,
    epoch: int | None = None,
    snapshot: str | None = None,
    progress: Progress = lambda step: None,
) -> Restored:
    """Restore the newest state, the one of an instant, or that of one epoch, to `path`. `snapshot` names one of the
    snapshots, or `latest`; where no epoch can be restored the latest one is the last resort.

    `progress` is told of each step, in words. Raises `InTheWay`, `NothingToRestore`, `RestoreFailed`, `BucketError`.
    """
    for name in (path, path.with_name(path.name + "-wal")):
        if name.exists():
            raise InTheWay(f"{name} is there already")
    snapshots = Snapshots(Bucket.open(target, timeout_s=SNAPSHOT_REQUEST_S))
    last_resort = at is None and epoch is None
    passed_over: list[str] = []
    try:
        candidates = [] if snapshot else await _candidates(Epochs(Bucket.open(target)), target, at, epoch)
    except NothingToRestore as error:
        if not last_resort or not await snapshots.all():
            raise
        candidates, passed_over = [], [error.message]
    path.parent.mkdir(parents=True, exist_ok=True)
    with _workshop(path) as folder:
        for candidate in candidates:
            progress(f"fetching epoch {candidate.epoch} ({candidate.standing})")
            fetched = Path(folder) / f"{candidate.epoch}.db"
            try:
                await asyncio.to_thread(_fetch, target.child(candidate.epoch), fetched, at)
                progress("checking its content")
                found = await asyncio.to_thread(_examine, fetched)
            except PerdureError as error:
                passed_over.append(f"epoch {candidate.epoch} ({candidate.standing}): {error.message}")
                progress(passed_over[-1])
                earlier = None if at else await _fetch_earlier(target.child(candidate.epoch), Path(folder), progress)
                if earlier is None:
                    continue
                fetched, found, end = earlier
                what = f"epoch {candidate.epoch}, what came after its transaction {end.number} of {end.timestamp}"
                passed_over[-1] += f"; {what}, is missing"
            _put(fetched, path)
            return Restored(path, candidate.epoch, candidate.standing, path.stat().st_size, *found, passed_over)
        if snapshot or (last_resort and await snapshots.all()):
            return await _from_snapshot(snapshots, snapshot or "latest", path, Path(folder), passed_over, progress)
    raise RestoreFailed(f"{target}: no copy could be restored", hint="; ".join(passed_over))


async def _from_snapshot(
    snapshots: Snapshots, name: str, path: Path, folder: Path, passed_over: list[str], progress: Progress
) -> Restored:
    found = await snapshots.find(name)
    progress(f"fetching the snapshot of {found.at:%Y-%m-%dT%H:%M:%SZ} (epoch {found.epoch})")
    fetched = folder / "snapshot.db"
    await snapshots.fetch(found, fetched)
    progress("checking its content")
    seen = await asyncio.to_thread(_examine, fetched)
    _put(fetched, path)
    return Restored(path, found.epoch, "snapshot", path.stat().st_size, *seen, passed_over, found.at)


async def _candidates(epochs: Epochs, target: Target, at: datetime | None, epoch: int | None) -> list[Candidate]:
    found = await epochs.candidates()
    if epoch is not None:
        found = [candidate for candidate in found if candidate.epoch == epoch]
    elif at is not None:
        then = await epochs.at(at)
        found = [candidate for candidate in found if then is not None and candidate.epoch == then]
    if not found:
        what = f" in epoch {epoch}" if epoch is not None else f" of {at.isoformat()}" if at is not None else ""
        raise NothingToRestore(f"{target} holds no database{what}")
    return found


def _fetch(target: Target, path: Path, at: datetime | None) -> None:
    """Have Litestream restore one epoch. It refuses an instant after its newest file; that means its newest state."""
    newest = None if at is None else _newest(target)
    if at is None or (newest is not None and at >= newest + LIST_GRAIN):
        _restore(target, path)
        return
    try:
        _restore(target, path, "-timestamp", at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"))
    except LitestreamFailed:
        if newest is None or at < newest:
            raise
        _restore(target, path)


async def _fetch_earlier(
    target: Target, folder: Path, progress: Progress
) -> tuple[Path, tuple[int, datetime | None], _Listed] | None:
    """Restore the newest state of an epoch that can be, below its newest, which cannot; None where there is none. What
    is damaged spoils all that follows, so half of what is left is ruled out at a time."""
    try:
        ends = await asyncio.to_thread(_ends, target)
    except (PerdureError, msgspec.MsgspecError):
        return None
    best = None
    low, high = 0, len(ends) - 1  # the last one has failed
    while low < high:
        middle = (low + high) // 2
        end = ends[middle]
        fetched = folder / f"{end.max_txid}.db"
        progress(f"trying its transaction {end.number} of {end.timestamp}")
        try:
            await asyncio.to_thread(_restore, target, fetched, "-txid", end.max_txid)
            found = await asyncio.to_thread(_examine, fetched)
        except PerdureError:
            high = middle
        else:
            best, low = (fetched, found, end), middle + 1
    return best


def _restore(target: Target, path: Path, *more: str) -> None:
    arguments = ["restore", "-o", str(path), "-integrity-check", "full", *more, target.litestream_url()]
    litestream.run(arguments, target.credentials(), RESTORE_S)
    if not path.exists():
        raise LitestreamFailed("litestream restored nothing")


def _newest(target: Target) -> datetime | None:
    """Give the second in which the newest file of an epoch was made; None when there is none."""
    return max((entry.timestamp for entry in _listed(target)), default=None)


def _ends(target: Target) -> list[_Listed]:
    """Give the transactions up to which an epoch may be restored, oldest first: the last one of each file."""
    return [end for _, end in sorted({entry.max_txid: entry for entry in _listed(target)}.items())]


def _listed(target: Target) -> list[_Listed]:
    arguments = ["ltx", "-level", "all", "-json", target.litestream_url()]
    listed = litestream.run(arguments, target.credentials(), RESTORE_S).stdout
    return msgspec.json.decode(listed, type=list[_Listed])


class _Listed(msgspec.Struct):
    """A file of an epoch; transactions are 16 hexadecimal digits."""

    max_txid: str
    timestamp: datetime

    @property
    def number(self) -> int:
        return int(self.max_txid, 16)


def _examine(path: Path) -> tuple[int, datetime | None]:
    """Check that the histories are whole and agree with what is made from them; give the number of executions and the
    instant of the newest event."""
    store = SqliteStore(path, create=False)
    try:
        wrong = [f"{what}: {detail}" for what, ok, detail in store.check(quick=False) if not ok]
        if wrong:
            raise RestoreFailed(f"its content is damaged: {'; '.join(wrong)}")
        executions = sum(store.counts().values())
        newest: int | None = store.reader.rows("newest_event")[0][0]
    finally:
        store.close()
    return executions, None if newest is None else datetime.fromtimestamp(newest / 1e6, UTC)


@contextlib.contextmanager
def _workshop(path: Path) -> Iterator[str]:
    """Make a folder beside the file, locked, for what is not checked yet. What dead processes left of theirs goes."""
    prefix = f".{path.name}-restore-"
    for left in path.parent.glob(glob.escape(prefix) + "*"):
        with contextlib.suppress(OSError), _locked(left):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=prefix, dir=path.parent) as folder, _locked(Path(folder)):
        yield folder


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which the kernel drops when we die. Raises `BlockingIOError` when somebody else has it."""
    fd = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)


def _put(fetched: Path, path: Path) -> None:
    """Put a checked file in its place, for good."""
    with fetched.open("rb") as file:
        os.fsync(file.fileno())
    try:
        os.link(fetched, path)  # unlike a rename this fails if someone was faster
    except FileExistsError as error:
        raise InTheWay(f"{path} appeared meanwhile") from error
    except OSError:  # a file system without links
        os.rename(fetched, path)
    with contextlib.suppress(OSError):
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
