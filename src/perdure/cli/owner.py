"""Which process runs a database's executions."""

from __future__ import annotations

from pathlib import Path

import msgspec

from perdure.store.sqlite import RunnerLock


class Owner(msgspec.Struct):
    """What the runner wrote about itself into the lock file."""

    pid: int
    host: str = ""

    def __str__(self) -> str:
        return f"process {self.pid}" + (f" on {self.host}" if self.host else "")


def owner(path: Path) -> Owner | None:
    """Give the process that holds the runner's lock, None when nobody does. Its `pid` is 0 when it did not say."""
    text = RunnerLock(path).holder()
    if not text:
        return None
    try:
        return msgspec.json.decode(text, type=Owner)
    except msgspec.MsgspecError:
        return Owner(0)
