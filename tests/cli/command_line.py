"""Running the installed `perdure` in a process of its own."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from perdure.cli import main

PERDURE = Path(sys.executable).with_name("perdure")
SHOP = Path(__file__).with_name("shop.py")
PATIENCE_S = 30.0
HERE = frozenset(
    "list show history signal cancel terminate pause resume retry complete fail start doctor gc status version".split()
)
"""Commands that do not import the user's code."""


class Cli:
    """Commands in one folder, with `perdure.db` and `shop.py` in it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.database = folder / "perdure.db"
        self.environment = os.environ | {"PYTHONUNBUFFERED": "1", "COLUMNS": "100", "TERM": "xterm-256color"}
        self.started: list[subprocess.Popen[str]] = []

    def __call__(self, *arguments: object, input: str = "", **environment: str) -> Done:
        """Run a command; in a process of its own if it imports the user's code, otherwise here, which is faster."""
        if environment or not arguments or arguments[0] not in HERE or any(":" in str(word) for word in arguments):
            return self.apart(*arguments, input=input, **environment)
        return self.here(*arguments, input=input)

    def here(self, *arguments: object, input: str = "") -> Done:
        """Run a command in this process."""
        out, err, before = io.StringIO(), io.StringIO(), os.getcwd()
        os.chdir(self.folder)
        stdin, sys.stdin = sys.stdin, io.StringIO(input)
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), pytest.raises(SystemExit) as ended:
                main([str(word) for word in arguments])
        finally:
            os.chdir(before)
            sys.stdin = stdin
        return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())

    def apart(self, *arguments: object, input: str = "", **environment: str) -> Done:
        """Run a command in a process of its own."""
        done = subprocess.run(
            [PERDURE, *map(str, arguments)],
            cwd=self.folder, env=self.environment | environment, input=input, capture_output=True, text=True,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

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

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code = code
        self.out = out
        self.err = err
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
