"""Compare-and-swap in a folder, which obstore has not got: under an OS lock that the kernel drops with its holder."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from perdure.replication.refusal import BucketConflict, BucketUnreachable

if TYPE_CHECKING:
    from obstore.store import ObjectStore

LOCK_NAME = ".perdure-lock"
TRY_EVERY_S = 0.005


def swap(store: ObjectStore, folder: Path, path: str, data: bytes, etag: str, timeout_s: float) -> str:
    """Replace a file if it is still the version `etag`; give the new one. Blocks: call it on a thread.

    Raises `BucketConflict`, `BucketUnreachable` when the lock is not to be had in time, and what obstore raises.
    """
    import obstore

    fd = os.open(folder / LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock(fd, folder, timeout_s)
        try:
            now = obstore.head(store, path)["e_tag"]
        except FileNotFoundError:
            raise BucketConflict(f"{folder}: {path} is gone") from None
        if now != etag:
            raise BucketConflict(f"{folder}: {path} has changed")
        return obstore.put(store, path, data)["e_tag"] or ""
    finally:
        os.close(fd)


def _lock(fd: int, folder: Path, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise BucketUnreachable(f"{folder} was locked for {timeout_s:g} s") from None
            time.sleep(TRY_EVERY_S)
