"""The command line, called here and not in a process of its own, with what it may never do checked each time."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import NamedTuple

import typer

from perdure.cli.app import app
from perdure.cli.exits import ExitCode

PROGRAM = typer.main.get_command(app)
"""Made once: `perdure.cli.main` makes it anew each time, which takes longer than most commands."""
CODES = frozenset(code.value for code in ExitCode)
STEERING = frozenset(map(chr, (*range(32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)))) - {"\n"}
"""What makes a terminal do something, unless it was typed. A tab in a pipe stands between fields."""

LOOKING = (
    ("list",), ("list", "--json"), ("list", "--limit", "3", "--status", "blocked", "--status", "failed"),
    ("list", "--prefix", "q", "--since", "9d"), ("doctor",), ("doctor", "--json"), ("doctor", "--quick"),
    ("gc", "--older-than", "1s", "--dry-run"),
)  # fmt: skip
LOOKING_AT = (
    ("show", "{}"), ("show", "{}", "--json"), ("show", "{}", "--depth", "99"), ("history", "{}"),
    ("history", "{}", "--json"), ("history", "{}", "--full"), ("list", "--parent", "{}"), ("list", "--after", "{}"),
)  # fmt: skip
ASKING_OF = (
    ("signal", "{}", "approved", '"no"'), ("cancel", "{}", "--reason", "fuzz"), ("pause", "{}"), ("resume", "{}"),
    ("retry", "{}"), ("start", "quick", "--id", "{}"), ("terminate", "{}"),
)  # fmt: skip


class Said(NamedTuple):
    code: int
    out: str
    err: str


class Terminal(io.StringIO):
    """Stands for a terminal without colours, so that nothing may steer it."""

    def isatty(self) -> bool:
        return True


def perdure(database: Path, *arguments: str, terminal: bool = False, stdin: bytes = b"") -> Said:
    """Run one command. Fails on a traceback, on an exit code that is not documented and on what steers a terminal."""
    out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
    before = dict(os.environ), sys.stdin
    os.environ.update(PERDURE_DB=str(database), TERM="dumb", COLUMNS="100")
    sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            PROGRAM(args=list(arguments), prog_name="perdure")
        raise AssertionError(f"{arguments}: did not exit")
    except SystemExit as ended:
        code = int(ended.code or 0)
    finally:
        os.environ.clear()
        os.environ.update(before[0])
        sys.stdin = before[1]
    said = Said(code, out.getvalue(), err.getvalue())
    steering = STEERING if terminal else STEERING - {"\t"}
    raw = {char for char in said.out + said.err if char in steering} - set("".join(arguments))
    assert code in CODES, f"{arguments}: exit code {code}\n{said.err}"
    assert not raw, f"{arguments}: writes {raw}\n{said.out[:2000]!r}\n{said.err[:2000]!r}"
    words = (said.out + said.err).lower()
    assert code in (ExitCode.OK, ExitCode.FAILED) or "error" in words or "usage" in words, f"{arguments}: {said}"
    return said


def look(database: Path, ids: list[str], terminal: bool = False) -> None:
    """Run every command that looks, on the whole and on each of `ids`."""
    for command in LOOKING:
        perdure(database, *command, terminal=terminal)
    perdure(database, "verify", str(database), "fuzz_workload", terminal=terminal)
    for id in ids:
        for command in LOOKING_AT:
            perdure(database, *(word.format(id) for word in command), terminal=terminal)


def ask(database: Path, ids: list[str]) -> None:
    """Run every command that asks something of `ids`."""
    for id in ids:
        for command in ASKING_OF:
            perdure(database, *(word.format(id) for word in command))
