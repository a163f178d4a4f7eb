"""The facts about this machine that a figure cannot be read without."""

from __future__ import annotations

import json
import os
import platform
import resource
import sqlite3
import sys
import time
from importlib import metadata
from pathlib import Path

import apsw

IN_MEMORY = ("tmpfs", "ramfs")
BUSY_CPUS = 0.2
"""More than that of other programs and figures that depend on the CPU come out lower than they are."""


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
        "Restate": f"{_server_version()}, Python SDK {_version('restate-sdk')}",
    }


class Others:
    """How many CPUs other programs have kept busy since this was made, in the mean. 0 where that is not known."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._before = _others_s()

    def cpus(self) -> float:
        return max(_others_s() - self._before, 0.0) / (time.monotonic() - self._began)


def _others_s() -> float:
    """CPU time since boot that was not that of this process and of its children that have ended."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _, _, irq, softirq, *_ = map(int, stat.read_text().split("\n", 1)[0].split()[1:])
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    total_s = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    return total_s - sum(usage.ru_utime + usage.ru_stime for usage in own)


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


def _server_version() -> str:
    found = Path(sys.prefix, "node_modules", "@restatedev", "restate-server", "package.json")
    return str(json.loads(found.read_text())["version"]) if found.exists() else "not installed"


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
