"""`perdure doctor`, `gc` and `version`, and what all commands share."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
import sys

import pytest

import perdure


def verdicts(done):
    return {row[1]: row[0] for row in done.rows}


def test_doctor_finds_nothing_wrong(cli):
    cli("run", "shop:double")
    done = cli("doctor")
    assert (done.code, done.err) == (0, "")
    assert set(verdicts(done).values()) == {"ok", "note"}
    assert {"sqlite", "settings", "integrity", "histories", "runner", "wal", "disk", "blocked", "backlog"} <= set(
        verdicts(done)
    )
    assert "histories" not in verdicts(cli("doctor", "--quick"))
    assert {"check": "integrity", "verdict": "ok", "detail": "ok"} in cli("doctor", "--json").lines


def test_doctor_names_the_runner_and_what_waits(cli, waiting_order):
    waiting_order("o")
    assert cli("run", "shop:patient", "--id", "p", "--timeout", "300ms").code == 124
    worker = cli.worker()
    done = cli("doctor")
    assert done.code == 0, done.out
    details = {row[1]: row[2] for row in done.rows}
    assert str(worker.pid) in details["runner"]
    assert details["backoff"].startswith("p: call_tomorrow (#2) is tried again in ")
    assert details["waiting"].startswith("1 execution without a timer")


def test_doctor_finds_a_gap_and_work_that_nobody_does(cli):
    cli("run", "shop:double", "--id", "d")
    cli("run", "shop:loop", "-i", "[0]", "--id", "l")
    with sqlite3.connect(cli.database) as connection:
        connection.execute("DELETE FROM perdure_event WHERE execution = 1 AND seq = 1")
        connection.execute("UPDATE perdure_execution SET status = 'running', ended_at = NULL WHERE id = 'l'")
    connection.close()
    done = cli("doctor")
    assert done.code == 1
    assert [row[1] for row in done.rows if row[0] == "problem"] == ["histories", "statuses", "backlog"]
    assert "something is wrong" in done.err
    assert "gaps in the history of d, run 1" in done.out


def test_doctor_says_that_a_file_is_damaged(cli):
    for number in range(30):
        cli_input = f'["{"x" * 3000}"]'
        if number == 0:
            cli("run", "shop:broken", "-i", cli_input)
    with cli.database.open("r+b") as file:
        size = file.seek(0, 2)
        for page in range(4, size // 4096):
            file.seek(page * 4096)
            file.write(b"\xff" * 200)
    done = cli("doctor")
    assert done.code in (1, 5)
    assert "error: " in done.err


def test_a_file_that_was_cut_off_comes_with_a_way_out(cli):
    cli("run", "shop:double")
    for name in ("perdure.db-wal", "perdure.db-shm"):
        (cli.folder / name).unlink(missing_ok=True)
    os.truncate(cli.database, 8192)
    done = cli("doctor")
    assert done.code in (1, 5)
    assert "restore a backup, or try `sqlite3 perdure.db .recover`" in done.err


def test_gc_counts_asks_and_deletes(cli):
    for number in range(3):
        cli("run", "shop:double", "--id", f"d-{number}")
    cli("run", "shop:broken", "--id", "b")
    assert cli("gc", "--keep", 1, "--dry-run").out == "3\n"
    refused = cli("gc", "--keep", 1)
    assert refused.code == 2
    assert "add --yes" in refused.err
    assert cli("gc", "--status", "failed", "--yes", "--json").json["deleted"] == 1
    assert cli("gc", "--older-than", "1h", "--yes").out == "0\n"
    assert cli("gc", "--older-than", "0s", "--keep", 1, "--yes").out == "2\n"
    assert [row[0] for row in cli("list").rows] == ["d-2"]


def test_gc_wrong_use(cli):
    cli("run", "shop:double")
    assert cli("gc").code == 2
    assert cli("gc", "--status", "running", "--yes").code == 2
    assert cli("gc", "--older-than", "old").code == 2


def test_version(cli):
    done = cli("version", "--json").json
    assert (done["perdure"], done["python"]) == (perdure.__version__, platform.python_version())
    assert cli("--version").out == f"perdure {perdure.__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["nothing"], ["list", "--nothing"], ["list", "--limit", "0"]])
def test_wrong_use_is_code_2(cli, arguments):
    assert cli(*arguments).code == 2


def test_the_installed_program_does_all_of_it(cli, waiting_order):
    waiting_order("o")
    for command in ("list", "show o", "history o", "doctor", "version", "pause o", "signal o x 1", "gc --keep 1 --yes"):
        done = cli.apart(*command.split())
        assert (command, done.code, done.err) == (command, 0, "")
    for command, code in (("cancel x", 3), ("retry o", 4), ("signal o x y", 2), ("list --db x.db", 5), ("start", 2)):
        done = cli.apart(*command.split())
        assert (command, done.code, done.out) == (command, code, "")


def test_every_command_has_help_with_examples(cli):
    for name in ("run", "worker", "list", "gc", "complete"):
        done = cli(name, "--help")
        assert (name, done.code) == (name, 0)
        assert f"$ perdure {name}" in done.out


def test_importing_perdure_imports_neither_typer_nor_rich():
    code = (
        "import sys, perdure; print(sorted({'typer', 'rich', 'click'} & {name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_command_line_imports_nothing_heavy_to_start_with():
    heavy = {"cryptography", "zstandard", "pydantic", "sqlite3", "http.server", "numpy"}
    code = f"import sys, perdure.cli.app; print(sorted({heavy!r} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_shell_completes_commands_and_ids(cli):
    cli("run", "shop:double", "--id", "order-1")
    cli("run", "shop:double", "--id", "other")
    complete = {"_PERDURE_COMPLETE": "complete_bash", "COMP_CWORD": "2"}
    done = cli(COMP_WORDS="perdure show order", **complete)
    assert done.out.split() == ["order-1"]
    done = cli(COMP_WORDS="perdure show order", **complete, PERDURE_DB="nothing.db")
    assert done.out.split() == []
    assert "doctor" in cli(COMP_WORDS="perdure do", **complete | {"COMP_CWORD": "1"}).out
    elsewhere = {"PERDURE_DB": "nothing.db"}
    for words in ("verify {} shop.py --id or", "verify {} --id or", "verify {} shop.py --id=or", "show --db {} or"):
        words = f"perdure {words.format(cli.database)}"
        done = cli(COMP_WORDS=words, **complete | {"COMP_CWORD": str(words.count(" "))}, **elsewhere)
        assert done.out.split() == ["order-1"], words
