"""`perdure run`: the result on stdout, everything else on stderr, the exit code says how it ended."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest


def test_prints_the_result_as_json(cli):
    done = cli("run", "shop.py:double", "--input", '{"n": 4}')
    assert (done.code, done.out, done.err) == (0, "8\n", "")


def test_arguments_may_come_by_position_from_a_file_or_from_stdin(cli):
    (cli.folder / "input.json").write_text("[5]")
    assert cli("run", "shop:double", "-i", "@input.json").out == "10\n"
    assert cli("run", "shop:double", "-i", "-", input='{"n": 6, "note": "x"}').out == "12\n"
    assert cli("run", "shop:double").out == "42\n"


def test_json_describes_the_execution(cli):
    done = cli("run", "shop.py:double", "--id", "d-1", "--json")
    assert done.json == {"id": "d-1", "run": 1, "status": "completed", "result": 42}


def test_runs_as_a_module_too(cli):
    command = [sys.executable, "-m", "perdure", "run", "shop.py:double", "--json"]
    done = subprocess.run(command, cwd=cli.folder, env=cli.environment, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["result"] == 42


def test_what_the_workflow_prints_goes_to_stderr(cli):
    done = cli("run", "shop:charged", "-i", '{"order": {"id": "7", "items": []}}')
    assert (done.code, done.out) == (0, '"charge-7"\n')
    assert done.err == "charging 7\n" * 3


def test_a_timeout_leaves_the_execution_open(cli):
    done = cli("run", "shop:nap", "-i", "[3600]", "--timeout", "100ms", "--json", "--id", "n")
    assert (done.code, done.json["status"]) == (124, "waiting")
    assert "hint: it goes on with a worker, or when you run this again with --id n" in done.err
    assert cli("list").rows[0][3] == "waiting"


def test_a_failure_is_printed_with_its_traceback_and_a_hint(cli):
    done = cli("run", "shop:broken", "--id", "b-1")
    assert (done.code, done.out) == (1, "")
    assert 'raise ValueError(f"broken by {wish}")' in done.err
    assert "error: execution b-1 failed after" in done.err
    assert "ValueError: broken by none\nhint: `perdure show b-1`" in done.err


def test_the_same_id_joins_and_other_input_is_a_conflict(cli):
    assert cli("run", "shop:double", "-i", "[1]", "--id", "d").out == "2\n"
    assert cli("run", "shop:double", "-i", "[1]", "--id", "d").out == "2\n"
    other = cli("run", "shop:double", "-i", "[2]", "--id", "d")
    assert (other.code, other.out) == (4, "")
    assert "exists already with another workflow or input" in other.err
    assert cli("run", "shop:double", "-i", "[1]", "--id", "d", "--on-conflict", "reject").code == 4
    assert cli("run", "shop:double", "-i", "[2]", "--id", "d", "--on-conflict", "replace", "--json").json["run"] == 2


def test_a_time_limit_fails_the_execution(cli):
    done = cli("run", "shop:nap", "-i", "[3600]", "--time-limit", "50ms")
    assert done.code == 1
    assert "ExecutionTimedOut" in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["shop:double", "-i", '["x"]'], "parameter `n`: Expected `int`, got `str`"),
        (["shop:double", "-i", '{"m": 1}'], "unexpected keyword argument 'm'"),
        (["shop:double", "-i", "{n: 1}"], "--input is not JSON"),
        (["shop:double", "-i", "3"], "must be a JSON object"),
        (["shop:double", "-i", "@nothing.json"], "cannot be read"),
        (["shop:double", "--timeout", "soon"], "'soon' is not a duration"),
        (["shop:double", "--timeout", "0"], "must be more than 0"),
        (["shop:doubel"], "did you mean shop:double?"),
        (["shop"], "has 10 workflows"),
        (["shop:charge"], "is not a workflow"),
    ],
)
def test_wrong_use_is_code_2_before_anything_is_written(cli, arguments, message):
    done = cli("run", *arguments)
    assert (done.code, done.out) == (2, "")
    assert message in done.err
    assert not cli.database.exists()


def test_an_unusable_database_is_code_5(cli):
    (cli.folder / "notes.txt").write_text("not a database, but long enough to be looked at as one" * 20)
    done = cli("run", "shop:double", "--db", "notes.txt")
    assert done.code == 5
    assert "is not a SQLite database" in done.err
    assert cli("run", "shop:double", "--db", "none/perdure.db").code == 5


def test_interrupted_it_ends_with_130_and_goes_on_when_run_again(cli, pipe):
    command = ("run", "shop:hold", "-i", json.dumps([str(pipe)]), "--id", "h", "--grace", "50ms")
    first = cli.begin(*command)
    assert first.stderr.readline() == "waiting\n"
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=30)
    assert (first.returncode, out) == (130, "")
    assert "execution h was interrupted; it is running" in err

    second = cli.begin(*command)
    assert second.stderr.readline() == "waiting\n"
    Path(pipe).write_text("hello")
    out, err = second.communicate(timeout=30)
    assert (second.returncode, out) == (0, '"hello"\n'), err


def test_code_that_does_not_fit_the_history_is_said_and_ends_the_run(cli, waiting_order):
    waiting_order("o")
    cli("signal", "o", "approved", "true")
    source = (cli.folder / "shop.py").read_text()
    (cli.folder / "shop.py").write_text(source.replace("    await charge(order)\n", "    await ship(order.id)\n"))
    done = cli("run", "shop:fulfil", "-i", json.dumps({"order": {"id": "o", "items": ["tea", "mug"]}}), "--id", "o")
    assert done.code == 1
    assert "error: execution o is blocked: " in done.err
    assert "charge" in done.err
    doctor = cli("doctor")
    assert doctor.code == 1
    assert ["problem", "blocked"] in [row[:2] for row in doctor.rows]
