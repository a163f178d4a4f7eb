"""Where faults happen: a new folder for each run, in memory if possible, since no fault needs a real disk."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fault_disk import SmallDisk


@pytest.fixture
def place() -> Iterator[Callable[[], Path]]:
    """Give the path of a database that is not there yet, in a folder of its own; the one before is removed."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="perdure-fault-", dir=memory if memory.is_dir() else None) as name:
        numbers = itertools.count()

        def make() -> Path:
            number = next(numbers)
            shutil.rmtree(Path(name, str(number - 1)), ignore_errors=True)
            Path(name, str(number)).mkdir()
            return Path(name, str(number), "fault.db")

        yield make


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have another process's lock waited for in real time, but not for long."""
    monkeypatch.setattr("perdure.store.sqlite.connection.BUSY_S", 0.01)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A file system of its own that really gets full. Mounting takes root, as in continuous integration."""
    disk = SmallDisk(tmp_path / "disk")
    refused = disk.mount()
    if refused is not None:
        if os.environ.get("PERDURE_CI"):
            pytest.fail(f"no small disk could be mounted: {refused}")
        pytest.skip(f"no small disk can be mounted here: {refused}")
    try:
        yield disk
    finally:
        disk.unmount()
