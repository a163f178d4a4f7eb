"""Where faults happen: a new folder for each run, in memory if possible, since no fault needs a real disk."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


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
