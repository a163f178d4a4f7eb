"""`perdure verify`: recorded histories against the code of today, from the shell."""

from __future__ import annotations

import importlib
import json
import os
import pty
import subprocess
import sys

import pytest
from command_line import PATIENCE_S, PERDURE, Done

CHANGED = ("    await charge(order)\n    state", "    await remind(order)\n    await charge(order)\n    state")


@pytest.fixture
def verify(cli):
    """Run `perdure verify` in this process, which is faster, and forget the code that it imported."""

    def run(*arguments: object) -> Done:
        modules, path = set(sys.modules), list(sys.path)
        importlib.invalidate_caches()
        try:
            return cli.here("verify", *arguments)
        finally:
            for name in set(sys.modules) - modules:
                if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(cli.folder)):
                    del sys.modules[name]
            sys.path[:] = path

    return run


@pytest.fixture
def change(cli):
    """Put another version of shop.py in place."""

    def replace(old: str, new: str) -> None:
        path = cli.folder / "shop.py"
        text = path.read_text()
        assert text.count(old) == 1
        path.write_text(text.replace(old, new))

    return replace


def test_what_fits_is_code_0_and_nothing_on_stdout(cli):
    cli("run", "shop:double", "--id", "d")
    cli("run", "shop:loop", "-i", "[2]")
    done = cli("verify", cli.database, "shop.py")
    assert (done.code, done.out) == (0, "")
    assert done.err == "4 histories of 2 workflows replayed: all fit\n"
    assert cli("verify", cli.database, "shop", "--json").json == {"ok": True, "checked": 4, "mismatches": []}


def test_what_does_not_fit_is_code_1_and_a_line_for_each(cli, verify, waiting_order, change):
    waiting_order("o-1")
    cli("run", "shop:double", "--id", "d")
    change(*CHANGED)
    done = verify(cli.database, "shop.py")
    assert done.code == 1
    ((id, run, workflow, status, what, seq, expected, got, source),) = done.rows
    assert (id, run, workflow, status, what, seq) == ("o-1", "1", "fulfil", "waiting", "mismatch", "2")
    assert expected.startswith('#2 activity_scheduled charge {"order"')
    assert got.startswith('#2 activity_scheduled remind {"order"')
    assert source.endswith("shop.py:45 in fulfil")
    assert "2 histories of 2 workflows replayed: 1 fit, 1 not" in done.err
    assert "error: 1 of 2 histories does not fit" in done.err
    found = verify(cli.database, "shop.py", "--json").json
    assert (found["ok"], found["checked"]) == (False, 2)
    assert {"id": "o-1", "what": "mismatch", "seq": 2, "source": source}.items() <= found["mismatches"][0].items()


@pytest.mark.filterwarnings("ignore::perdure.errors.DeterminismWarning")
def test_what_the_guard_refuses_is_told(cli, verify, change):
    cli("run", "shop:double")
    change("    return 2 * n\n", '    return int(open("n").read())\n')
    done = verify(cli.database, "shop.py")
    assert done.code == 1
    assert done.rows[0][4] == "refused"
    assert "open('n') in workflow code" in done.rows[0][7]


def test_what_is_checked_can_be_narrowed(cli, verify, waiting_order, change):
    waiting_order("o-1")
    cli("run", "shop:double", "--id", "d")
    change(*CHANGED)

    def checked(*options):
        done = verify(cli.database, "shop.py", "--json", *options)
        return done.code, done.json["checked"]

    assert checked("--workflow", "double", "--status", "completed") == (0, 1)
    assert checked("--open") == (1, 1)
    assert checked("--id", "o-1", "--id", "d") == (1, 2)
    assert checked("--limit", 1) == (0, 1)
    none = verify(cli.database, "shop.py", "--status", "failed")
    assert none.code == 0
    assert "no execution was checked" in none.err
    assert verify(cli.database, "shop.py", "--open", "--status", "failed").code == 2


def test_it_reads_what_history_prints(cli, verify, waiting_order, change):
    waiting_order("o-1")
    cli("run", "shop:loop", "-i", "[1]", "--id", "l")
    folder = cli.folder / "histories"
    folder.mkdir()
    (folder / "order.jsonl").write_text(cli("history", "o-1", "--json").out)
    runs = [cli("history", "l", "--run", run, "--json").out for run in (1, 2)]
    (folder / "loop.jsonl").write_text("".join(runs))
    lines = [json.loads(line) for line in (folder / "order.jsonl").read_text().splitlines()]
    assert {(line["id"], line["run"]) for line in lines} == {("o-1", 1)}
    assert verify(folder, "shop.py").err == "3 histories of 2 workflows replayed: all fit\n"
    change(*CHANGED)
    assert verify(folder / "order.jsonl", "shop.py", "--json").json["mismatches"][0]["id"] == "o-1"
    (folder / "bad.jsonl").write_text("{}\n")
    bad = verify(folder, "shop.py")
    assert bad.code == 2
    assert "bad.jsonl, line 1 is not an event of a history" in bad.err


def test_wrong_use_and_files_that_cannot_be_used_have_the_usual_codes(cli, verify):
    cli("run", "shop:double")
    assert verify(cli.database, "missing.py").code == 2
    assert verify("missing.db", "shop.py").code == 5
    (cli.folder / "twice.py").write_text("import perdure\n@perdure.workflow(name='double')\ndef f(): ...\n")
    twice = verify(cli.database, "shop.py", "twice.py")
    assert (twice.code, "two workflows are named double" in twice.err) == (2, True)


def test_it_works_beside_a_worker_and_prints_nothing_of_the_workflows(cli, change):
    change("    return 2 * n\n", '    print("doubling")\n    return 2 * n\n')
    worker = cli.worker()
    cli("start", "double", "--id", "d")
    cli.result("d")
    done = cli("verify", cli.database, "shop.py")
    assert (done.code, done.out) == (0, "")
    assert done.err == "1 history of 1 workflow replayed: all fit\n"
    assert worker.poll() is None


def test_encrypted_files_need_their_keys(cli):
    keys = "k:" + "A" * 43 + "="
    assert cli("run", "shop:double", PERDURE_KEYS=keys).code == 0
    assert cli("verify", cli.database, "shop.py").code == 5
    assert cli("verify", cli.database, "shop.py", PERDURE_KEYS=keys).code == 0
    other = cli("verify", cli.database, "shop.py", PERDURE_KEYS="k:" + "B" * 43 + "=")
    assert other.code == 1
    assert other.rows[0][4] == "unreadable"


def test_a_terminal_shows_the_report(cli, waiting_order, change):
    waiting_order("o-1")
    change(*CHANGED)
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [PERDURE, "verify", str(cli.database), "shop.py"],
        cwd=cli.folder, env=cli.environment | {"COLUMNS": "400"}, stdin=subprocess.DEVNULL,
        stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    assert process.wait(PATIENCE_S) == 1
    os.close(ours)
    text = shown.decode()
    assert "workflow fulfil: 1 execution" in text
    assert "o-1 (waiting), event #2: mismatch" in text
    assert "shop.py:45 in fulfil" in text
    assert "error: " in text


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 65536)
    except OSError:  # Linux says so when the other side is closed
        return b""
