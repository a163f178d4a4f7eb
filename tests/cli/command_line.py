"""Running the installed `perdure` in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

PERDURE = Path(sys.executable).with_name("perdure")
SHOP = Path(__file__).with_name("shop.py")
PATIENCE_S = 30.0


class Cli:
    """Commands in one folder, with `perdure.db` and `shop.py` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "perdure.db"
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith("PERDURE_")}
        self.environment |= {"PYTHONUNBUFFERED": "1", "COLUMNS": "100", "TERM": "xterm-256color"}
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, *arguments: object, input: str | None = None, **environment: str) -> Done:
        done = subprocess.run(
            [PERDURE, *map(str, arguments)],
            cwd=self.folder, env=self.environment | environment, input=input, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Done(done)

    def begin(self, *arguments: object, **options: Any) -> subprocess.Popen[str]:
        """Start a command and go on. What is left of it at the end is killed."""
        process = subprocess.Popen(
            [PERDURE, *map(str, arguments)],
            cwd=self.folder, env=self.environment, stdin=subprocess.DEVNULL, text=True, start_new_session=True,
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options,
        )  # fmt: skip
        self.started.append(process)
        return process

    def worker(self, *arguments: object) -> subprocess.Popen[str]:
        """Start a worker and wait until it is the runner."""
        worker = self.begin("worker", "shop.py", *arguments)
        read_until(worker.stderr, "runner with epoch")
        return worker

    def result(self, id: str) -> Any:
        """Wait for an execution to end; give its `show --json`."""
        assert self("history", id, "--follow").code == 0
        return self("show", id, "--json").json


class Done:
    """A command that has ended."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code = done.returncode
        self.out = done.stdout
        self.err = done.stderr
        assert "Traceback" not in self.err or "error: " in self.err, self.err

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


def read_until(stream: Any, text: str) -> str:
    """Read lines until one holds `text`; pytest's timeout bounds it."""
    seen = []
    for line in stream:
        seen.append(line)
        if text in line:
            return "".join(seen)
    raise AssertionError(f"{text!r} did not come:\n{''.join(seen)}")
