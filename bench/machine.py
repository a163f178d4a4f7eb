"""The facts about this machine that a figure cannot be read without."""

from __future__ import annotations

import os
import platform
import sqlite3
from importlib import metadata
from pathlib import Path

import apsw

IN_MEMORY = ("tmpfs", "ramfs")


def facts(folder: Path) -> dict[str, str]:
    """Name and value of each fact, for people."""
    return {
        "CPUs": f"{os.cpu_count()} ({_cpu_model()})",
        "system": platform.platform(terse=True),
        "file system": file_system(folder) or "unknown",
        "Python": platform.python_version(),
        "SQLite": f"{apsw.sqlite_lib_version()} in perdure, {sqlite3.sqlite_version} in DBOS",
        "perdure": _version("perdure"),
        "DBOS": _version("dbos"),
    }


def file_system(folder: Path) -> str:
    """The type of the file system that `folder` is on, such as ext4; empty where the system does not say."""
    mounts = Path("/proc/self/mounts")
    if not mounts.exists():
        return ""
    types: dict[Path, str] = {}
    for line in mounts.read_text().splitlines():
        _, point, kind, *_ = line.split()
        types[Path(point)] = kind  # a later mount on the same point hides the earlier one
    folder = folder.resolve()
    return next((types[parent] for parent in (folder, *folder.parents) if parent in types), "")


def _cpu_model() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
