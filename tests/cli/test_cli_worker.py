"""`perdure worker`: stops in order, at once when asked twice, and takes over from a dead one."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from command_line import read_until


def holding(cli, pipe, *arguments):
    """A worker with an activity that waits for the pipe."""
    worker = cli.worker(*arguments)
    cli("start", "hold", "-i", json.dumps({"pipe": str(pipe)}), "--id", "h")
    read_until(worker.stdout, "waiting")
    return worker


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_lets_running_activities_end(cli, pipe, number):
    worker = holding(cli, pipe)
    os.killpg(worker.pid, number)
    read_until(worker.stderr, f"{number.name}: stopping")
    Path(pipe).write_text("in time")
    _, err = worker.communicate(timeout=30)
    assert (worker.returncode, err) == (0, "stopped; everything that was acknowledged is in the file\n")
    assert cli("show", "h", "--json").json["result"] == "in time"


def test_the_second_stops_at_once_and_nothing_is_lost(cli, pipe):
    worker = holding(cli, pipe, "--grace", "1h")
    worker.send_signal(signal.SIGINT)
    read_until(worker.stderr, "stopping")
    worker.send_signal(signal.SIGINT)
    assert worker.wait(30) == 130
    again = cli.worker()
    read_until(again.stdout, "waiting")
    Path(pipe).write_text("second attempt")
    assert cli.result("h")["result"] == "second attempt"


def test_an_activity_that_does_not_end_does_not_keep_the_process(cli, pipe):
    worker = holding(cli, pipe, "--grace", "50ms")
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(30) == 0
    assert cli("show", "h", "--json").json["info"]["status"] == "running"


def test_another_worker_stands_by_and_takes_over(cli):
    first = cli.worker()
    second = cli.begin("worker", "shop.py")
    standing = read_until(second.stderr, "standing by")
    assert str(first.pid) in standing
    first.kill()
    read_until(second.stderr, "runner with epoch")
    cli("start", "double", "--id", "d")
    assert cli.result("d")["result"] == 42


def test_it_names_its_workflows_and_records_its_deployment(cli):
    worker = cli.begin("worker", "shop.py", "--deployment", "v7", "--threads", 1, "--processes", 1, "--strict", "-v")
    first = read_until(worker.stderr, "runner with epoch")
    assert "10 workflows: asking, broken, charged" in first
    cli("start", "double", "--id", "d")
    assert cli.result("d")["info"]["deployment"] == "v7"


def test_several_modules(cli):
    (cli.folder / "more.py").write_text(
        "from perdure import workflow\n@workflow\nasync def one() -> int:\n    return 1\n"
    )
    cli.worker("more")
    cli("start", "one", "--id", "o")
    cli("start", "double", "--id", "d")
    assert (cli.result("o")["result"], cli.result("d")["result"]) == (1, 42)


def test_strict_refuses_code_that_is_not_deterministic(cli):
    (cli.folder / "dice.py").write_text(
        "import random\nfrom perdure import workflow\n@workflow\n"
        "async def roll() -> float:\n    return random.random()\n"
    )
    done = cli("worker", "dice.py", "--strict")
    assert done.code == 1
    assert "random" in done.err
    assert not cli.database.exists()


def test_wrong_use(cli):
    assert cli("worker", "shop.py", "--synchronous", "sometimes").code == 2
    assert cli("worker", "shop.py", "--grace", "long").code == 2
    assert cli("worker").code == 2


def test_one_workflow_of_a_file_is_no_worker(cli):
    done = cli("worker", "shop.py:double")
    assert done.code == 2
    assert "worker runs all workflows of a file: perdure worker shop.py" in done.err
