"""The folder: which tenants have a file, and which of the files have changed since the last look.

1. One look lists the folder once and asks the system for two files of each tenant. No file is opened.
2. Only regular files count, not links: what is looked after lies in this folder.
3. A file that has just changed may change again without its time telling: its mark is 0, which is never the same.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from perdure.store.sqlite import RunnerLock
from perdure.tenants.names import SUFFIX, valid

SETTLED_NS = 100_000_000
LOCK = ".perdure-tenants"
"""`.perdure-tenants-lock` says who looks after the folder; it is also what makes it a folder of tenants."""
_LOG = f"{SUFFIX}-wal"


def path_of(folder: Path, name: str) -> Path:
    return folder / f"{name}{SUFFIX}"


def folder_lock(folder: Path) -> RunnerLock:
    return RunnerLock(folder / LOCK)


def in_folder_of_tenants(path: Path) -> bool:
    """Say whether a path is that of a tenant, there or not, in a folder that is or was looked after."""
    name = path.name.removesuffix(SUFFIX)
    return path.name.endswith(SUFFIX) and valid(name) and (path.parent / f"{LOCK}-lock").exists()


def scan(folder: Path) -> tuple[dict[str, int], list[str]]:
    """Give the tenants that have a file, each with a mark that differs when it has changed; and the files that cannot
    be tenants because of their names."""
    files: dict[str, os.stat_result] = {}
    logs: dict[str, os.stat_result] = {}
    strange: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            file = entry.name
            kind = files if file.endswith(SUFFIX) else logs if file.endswith(_LOG) else None
            if kind is None or file.startswith(".") or not entry.is_file(follow_symlinks=False):
                continue
            name = file[: -len(SUFFIX if kind is files else _LOG)]
            if not valid(name):
                strange += [file] if kind is files else []
                continue
            try:
                kind[name] = entry.stat(follow_symlinks=False)
            except FileNotFoundError:  # a log that has just been emptied
                continue
    now = time.time_ns()
    return {name: _mark(file, logs.get(name), now) for name, file in files.items()}, strange


def _mark(file: os.stat_result, log: os.stat_result | None, now: int) -> int:
    """An empty log is as none: who only reads makes one."""
    newest, size = (log.st_mtime_ns, log.st_size) if log is not None and log.st_size else (0, 0)
    if now - max(file.st_mtime_ns, newest) < SETTLED_NS:
        return 0
    return hash((file.st_ino, file.st_mtime_ns, file.st_size, newest, size)) or 1
