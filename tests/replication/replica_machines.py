"""A machine of its own: `perdure worker` in a process, with a folder for its temporary files that no other has."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PERDURE = Path(sys.executable).with_name("perdure")
SHOP = Path(__file__).with_name("replicated_shop.py")
PATIENCE_S = 60.0


class Machine:
    """See the module. `said` is what it has written to its standard error so far."""

    def __init__(self, folder: Path, *options: object) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.said = ""
        self.process = subprocess.Popen(
            [PERDURE, "worker", SHOP, *map(str, options)],
            cwd=folder, env={**os.environ, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        )  # fmt: skip
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    @property
    def path(self) -> Path:
        """Its local copy, once there is one."""
        (found,) = self.folder.glob("perdure-*/*.db")
        return found

    @property
    def litestream(self) -> int:
        """The process id of the Litestream that was started last."""
        (lock,) = [*self.folder.glob("perdure-*/*-litestream-lock"), *self.folder.glob("*-litestream-lock")]
        return int(lock.read_text().split()[0])

    async def until_it_says(self, text: str, patience_s: float = PATIENCE_S) -> None:
        deadline = time.monotonic() + patience_s
        while text not in self.said:
            assert time.monotonic() < deadline, f"{text!r} did not come:\n{self.said}"
            assert self.process.poll() is None or text in self.said, f"ended ({self.process.returncode}):\n{self.said}"
            await asyncio.sleep(0.02)

    async def until_it_ends(self, patience_s: float = PATIENCE_S) -> int:
        await asyncio.to_thread(self.process.wait, patience_s)
        await asyncio.to_thread(self._reading.join, 5)
        return self.process.returncode

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.said += line


class Machines:
    """Several, in folders of their own below one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.started: list[Machine] = []

    def __call__(self, *options: object, folder: str = "") -> Machine:
        made = Machine(self.folder / (folder or f"machine{len(self.started)}"), *options)
        self.started.append(made)
        return made


@contextmanager
def machines(folder: Path) -> Iterator[Machines]:
    """Give what starts machines. What is left of them at the end is killed, with their Litestreams."""
    made = Machines(folder)
    try:
        yield made
    finally:
        for machine in made.started:
            with suppress(ValueError, OSError, IndexError):
                os.kill(machine.litestream, signal.SIGCONT)
            machine.process.kill()
            machine.process.wait()
            with suppress(ValueError, OSError, IndexError):
                if machine.process.returncode == -signal.SIGKILL and _is_litestream(machine.litestream):
                    os.kill(machine.litestream, signal.SIGKILL)


def _is_litestream(pid: int) -> bool:
    return b"litestream" in Path(f"/proc/{pid}/cmdline").read_bytes()


def cli(folder: Path, *arguments: object) -> tuple[int, str, str]:
    """Run a command; give its exit code and what it wrote."""
    done = subprocess.run(
        [PERDURE, *map(str, arguments)], cwd=folder, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def as_json(text: str) -> dict[str, object]:
    found = json.loads(text)
    assert isinstance(found, dict)
    return found
