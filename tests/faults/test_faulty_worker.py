"""`perdure worker` and the other commands when the disk is full, read-only, or the file is taken away: exit codes and
what is said."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from perdure.store.sqlite import SqliteStore

PERDURE = Path(sys.executable).with_name("perdure")
PATIENCE_S = 60.0
STORE = 5
"""The exit code for what is wrong with the file or its disk: see docs/reference/cli.md."""
CODE = """
    import asyncio
    import random
    from perdure import activity, workflow

    @activity
    def make(n: int) -> str:
        return random.Random(n).randbytes(30_000).hex()

    @workflow
    async def grow(steps: int) -> int:
        return sum([len(await make.submit(n)) for n in range(steps)])

    @workflow
    async def tick(times: int) -> int:
        for _ in range(times):
            await asyncio.sleep(0.02)
        return times
"""


class Shell:
    """Commands on one database."""

    def __init__(self, database: Path, code: Path) -> None:
        self.database = database
        self.code = code
        self.perdure = [str(PERDURE)]
        self.workers: list[subprocess.Popen[str]] = []
        code.write_text(textwrap.dedent(CODE))

    def __call__(self, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        command = [*self.perdure, *map(str, words), "--db", str(self.database)]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, **options)

    def worker(self) -> subprocess.Popen[str]:
        """Start a worker and wait until it is the runner."""
        command = [*self.perdure, "worker", self.code, "--db", str(self.database), "--grace", "0s"]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, start_new_session=True, env=os.environ | {"COLUMNS": "200"}
        )
        self.workers.append(process)
        read_until(process, "runner with epoch")
        return process


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read what a worker says up to a line with `words`; give all of it."""
    assert process.stderr is not None
    said, patience = "", threading.Timer(PATIENCE_S, process.kill)
    patience.start()
    try:
        for line in process.stderr:
            said += line
            if words in line:
                return said
    finally:
        patience.cancel()
    raise AssertionError(f"it ended with {process.wait()} and never said {words!r}: {said}")


@pytest.fixture
def shells(tmp_path) -> Iterator[Any]:
    made: list[Shell] = []

    def make(database: Path) -> Shell:
        made.append(Shell(database, tmp_path / "code.py"))
        return made[-1]

    yield make
    for shell in made:
        for worker in shell.workers:
            worker.kill()
            worker.communicate()


def stop(worker: subprocess.Popen[str], code: int = 0) -> str:
    """Ask a worker to stop; give what it says from then on."""
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=60)
    assert worker.returncode == code, said
    assert "Traceback" not in said
    return said


def test_a_worker_waits_for_room_and_goes_on(small_disk, shells):
    shell = shells(small_disk.path / "full.db")
    worker = shell.worker()
    small_disk.fill(512 * 1024)
    assert shell("start", "grow", "-i", '{"steps": 20}', "--id", "g").returncode == 0
    said = read_until(worker, "no room on the disk")
    assert "a commit failed, nothing acknowledged is lost" in said
    read_until(worker, "hint: free space; perdure goes on by itself when there is room")
    small_disk.fill()
    large = json.dumps(
        {"steps": 2, "note": random.Random(1).randbytes(1024**2).hex()}
    )  # more than the log has room for
    refused = shell("start", "grow", "-i", "-", "--id", "refused", input=large)
    assert (refused.returncode, refused.stdout) == (STORE, "")
    assert "no room on the disk" in refused.stderr
    assert "hint: free space" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert shell("show", "g").returncode == 0
    small_disk.free()
    assert "completed" in shell("history", "g", "--follow").stdout
    stop(worker)
    assert shell("show", "refused").returncode == 3
    assert shell("doctor").returncode == 1  # nobody runs it: that is all


def test_a_worker_stops_in_order_on_a_full_disk(small_disk, shells):
    shell = shells(small_disk.path / "full.db")
    worker = shell.worker()
    small_disk.fill(512 * 1024)
    shell("start", "grow", "-i", '{"steps": 20}', "--id", "g")
    read_until(worker, "no room on the disk")
    said = stop(worker, STORE)
    assert "error: stopped, and what was done last could not be written" in said
    assert "hint: everything that was acknowledged is in the file" in said


@pytest.mark.parametrize("command", [["worker", "{code}"], ["run", "{code}:grow", "-i", '{{"steps": 1}}']])
def test_on_a_full_disk_nothing_starts(small_disk, shells, command):
    shell = shells(small_disk.path / "full.db")
    SqliteStore(shell.database).close()
    small_disk.fill()
    done = shell(*(word.format(code=shell.code) for word in command))
    assert done.returncode == STORE, done.stderr
    assert "hint: free space" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("command", [["worker", "{code}"], ["start", "grow", "-i", '{{"steps": 1}}'], ["list"]])
def test_on_a_read_only_disk_nothing_starts(small_disk, shells, command):
    shell = shells(small_disk.path / "full.db")
    SqliteStore(shell.database).close()
    small_disk.remount("ro")
    done = shell(*(word.format(code=shell.code) for word in command))
    assert done.returncode == STORE, done.stderr
    assert "may be written to" in done.stderr or "permissions" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_whose_file_is_taken_away_says_so_and_goes_on_when_it_is_back(tmp_path, shells):
    shell = shells(tmp_path / "moved.db")
    worker = shell.worker()
    away = shell.database.with_name("away.db")
    shell("start", "tick", "-i", '{"times": 100000}', "--id", "t")
    shell.database.rename(away)
    said = read_until(worker, "hint: put it back, or restart this process")
    assert "moved.db was removed while it was open" in said
    missing = shell("start", "tick", "-i", '{"times": 1}')
    assert missing.returncode == STORE
    assert "there is no database" in missing.stderr
    away.rename(shell.database)
    assert shell("cancel", "t").returncode == 0
    assert "cancelled" in shell("history", "t", "--follow").stdout
    stop(worker)


def test_a_worker_stops_in_order_though_its_file_is_gone(tmp_path, shells):
    shell = shells(tmp_path / "gone.db")
    worker = shell.worker()
    shell("start", "tick", "-i", '{"times": 100000}', "--id", "t")
    for end in ("", "-wal", "-shm"):
        shell.database.with_name(f"gone.db{end}").unlink()
    read_until(worker, "gone.db was removed while it was open")
    assert "gone.db is no longer there" in stop(worker, STORE)
    assert not shell.database.exists()


def test_a_worker_whose_file_was_replaced_says_so_and_leaves_the_new_one_alone(tmp_path, shells):
    shell, other = shells(tmp_path / "ours.db"), tmp_path / "other.db"
    worker = shell.worker()
    shell("start", "tick", "-i", '{"times": 100000}', "--id", "t")
    SqliteStore(other).close()
    other.rename(shell.database)
    read_until(worker, "ours.db was replaced while it was open")
    before = shell.database.read_bytes()
    assert "ours.db was replaced while it was open" in stop(worker, STORE)
    assert shell.database.read_bytes() == before


BROKEN = """
    import errno, os, sys
    sys.path.insert(0, {folder!r})
    from fault_calls import SystemCalls
    from perdure.cli.app import app

    with SystemCalls(lambda n, call: errno.EIO if call.kind == {kind!r} and os.path.exists({bad!r}) else 0):
        app(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the calls are replaced with Linux's signatures")
@pytest.mark.parametrize(
    ("kind", "problem", "hint", "also"),
    [
        (
            "write",
            "its disk reported an error (SQLITE_IOERR_WRITE)",
            "perdure goes on by itself when the disk does",
            [],
        ),
        ("read", "is damaged, or its disk cannot read it", "see what the system's log says of its disk", [["list"]]),
    ],
)
def test_a_worker_on_a_disk_that_stays_broken_says_so_and_stops_in_order(tmp_path, shells, kind, problem, hint, also):
    shell, bad, script = shells(tmp_path / "broken.db"), tmp_path / "bad", tmp_path / "broken.py"
    script.write_text(textwrap.dedent(BROKEN.format(folder=str(Path(__file__).parent), kind=kind, bad=str(bad))))
    shell.perdure = [sys.executable, str(script)]
    worker = shell.worker()
    shell("start", "tick", "-i", '{"times": 100000}', "--id", "t")
    bad.touch()
    read_until(worker, problem)
    assert hint in read_until(worker, "hint: ")
    for command in [["start", "tick", "-i", '{"times": 1}', "--id", "refused"], *also]:
        done = shell(*command)
        assert done.returncode == STORE, done.stderr
        assert "its disk reported an error" in done.stderr or "its disk cannot read it" in done.stderr
        assert "hint: " in done.stderr
        assert "Traceback" not in done.stderr
    said = stop(worker, STORE)
    assert "stopped, and what was done last could not be written" in said
    bad.unlink()
    assert shell("show", "t").returncode == 0
    assert shell("show", "refused").returncode == 3
    stop(shell.worker())
