"""Samples of a process and of its database, read from outside. Linux only: everything comes from /proc."""

from __future__ import annotations

import os
from pathlib import Path

MIB = 1 << 20
PAGE = os.sysconf("SC_PAGE_SIZE")
TICKS = os.sysconf("SC_CLK_TCK")


def sample_process(pid: int) -> dict[str, float]:
    """Give resident memory in MiB, open files, threads, and the CPU time so far in seconds."""
    proc = Path(f"/proc/{pid}")
    fields = (proc / "stat").read_text().rpartition(")")[2].split()
    return {
        "cpu_s": (int(fields[11]) + int(fields[12])) / TICKS,
        "rss_mib": int((proc / "statm").read_text().split()[1]) * PAGE / MIB,
        "open_files": len(os.listdir(proc / "fd")),
        "threads": len(os.listdir(proc / "task")),
    }


def sample_files(database: Path) -> dict[str, float]:
    """Give the sizes of the database and of its WAL in MiB."""
    wal = database.with_name(database.name + "-wal")
    return {name: path.stat().st_size / MIB for name, path in (("file_mib", database), ("wal_mib", wal))}


def busy_s() -> float:
    """Give the CPU time that all programs together have had since the system started, in seconds."""
    user, nice, system, _, _, irq, softirq, *_ = map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:])
    return (user + nice + system + irq + softirq) / TICKS
