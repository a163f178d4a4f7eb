"""What a person sees: the same commands on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import signal

import pytest
from command_line import PERDURE

_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """A command with a controlling terminal of its own."""

    def __init__(self, cli, *arguments):
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.chdir(cli.folder)
            os.execve(PERDURE, [str(PERDURE), *map(str, arguments)], cli.environment)
        self.seen = ""

    def read_until(self, text):
        """Read until the text is there, escape sequences left out."""
        while text not in self.plain:
            chunk = self._read()
            assert chunk, f"{text!r} did not come:\n{self.plain}"
            self.seen += chunk

    def type(self, text):
        os.write(self.fd, text.encode())

    def wait(self):
        """Read to the end; give the exit code."""
        while chunk := self._read():
            self.seen += chunk
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return os.waitstatus_to_exitcode(status)

    def close(self):
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    @property
    def plain(self):
        return _ESCAPE.sub("", self.seen)

    def _read(self):
        with contextlib.suppress(OSError):  # EIO: the other end is closed
            return os.read(self.fd, 65536).decode(errors="replace")
        return ""


@pytest.fixture
def terminal(cli):
    opened = []

    def start(*arguments):
        opened.append(Terminal(cli, *arguments))
        return opened[-1]

    yield start
    for one in opened:
        one.close()


def test_show_list_history_and_doctor_for_people(cli, terminal, waiting_order):
    waiting_order("o-1")
    cli("run", "shop:broken", "--id", "b-1")
    shown = terminal("show", "o-1")
    assert shown.wait() == 0
    assert "fulfil o-1  waiting" in shown.plain
    assert "└── " in shown.plain
    assert "attempt 2 of charge: ConnectionError: no route to \\x1b[31mthe bank" in shown.plain
    assert "\x1b[31mthe bank" not in shown.seen  # what is in the file cannot steer the terminal
    assert "\x1b[" in shown.seen

    listed = terminal("list")
    assert listed.wait() == 0
    assert "created" in listed.plain
    assert "ValueError: broken by none" in listed.plain
    history = terminal("history", "o-1")
    assert history.wait() == 0
    assert "attempt 1: ConnectionError" in history.plain
    full = terminal("history", "o-1", "--full")
    assert full.wait() == 0
    assert '"retry_at":' in full.plain
    failed = terminal("show", "b-1")
    assert failed.wait() == 0
    assert "raise ValueError" in failed.plain
    doctor = terminal("doctor")
    assert doctor.wait() == 0
    assert "✓ integrity" in doctor.plain


def test_run_shows_progress_and_then_the_result(cli, terminal):
    run = terminal("run", "shop:nap", "-i", "[0.6]", "--id", "n")
    run.read_until("wakes in")
    assert run.wait() == 0
    assert run.plain.rstrip().endswith('"awake"')


def test_ctrl_c_ends_a_run(cli, terminal, waiting_order):
    run = terminal("run", "shop:nap", "-i", "[3600]", "--id", "n")
    run.read_until("wakes in")
    run.type("\x03")
    assert run.wait() == 130
    assert "error: execution n was interrupted" in run.plain


def test_a_worker_has_a_status_line_and_stops_on_ctrl_c(cli, terminal):
    worker = terminal("worker", "shop.py")
    worker.read_until("running  up")
    cli("start", "double", "--id", "d")
    cli.result("d")
    worker.read_until("1 completed")
    worker.type("\x03")
    worker.read_until("SIGINT: stopping")
    assert worker.wait() == 0


def test_ctrl_c_leaves_programs_their_grace_time(cli, terminal, pipe):
    (cli.folder / "programs.py").write_text(
        "from perdure import Retry, activity, workflow\n"
        "@activity(exec=['sh', '-c', 'echo waiting > told; read line; head -n 1 pipe'], retry=Retry(attempts=1))\n"
        "def program(question: str) -> str: ...\n"
        "@workflow\nasync def asks() -> str:\n    return await program.submit('why')\n"
    )
    worker = terminal("worker", "programs.py", "-v")
    worker.read_until("runner with epoch")
    told = cli.folder / "told"
    os.mkfifo(told)
    cli("start", "asks", "--id", "a")
    assert told.read_text() == "waiting\n"
    worker.type("\x03")
    worker.read_until("SIGINT: stopping")
    pipe.write_text(json.dumps("because") + "\n")
    assert worker.wait() == 0
    assert cli("show", "a", "--json").json["result"] == "because"


def test_gc_asks_on_a_terminal(cli, terminal):
    cli("run", "shop:double", "--id", "d")
    gc = terminal("gc", "--keep", "0")
    gc.read_until("Delete 1 execution? [y/N]")
    gc.type("n\r")
    assert gc.wait() == 1
    gc = terminal("gc", "--keep", "0")
    gc.read_until("[y/N]")
    gc.type("y\r")
    assert gc.wait() == 0
    assert "deleted 1 execution" in gc.plain


def test_watch_follows_the_list(cli, terminal):
    cli("run", "shop:double", "--id", "d-1")
    watch = terminal("list", "--watch")
    watch.read_until("d-1")
    cli("run", "shop:double", "--id", "d-2")
    watch.read_until("d-2")
    watch.type("\x03")
    assert watch.wait() == 130
