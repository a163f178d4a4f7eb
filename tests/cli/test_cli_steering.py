"""`perdure start`, `signal`, `cancel`, `terminate`, `pause`, `resume`, `retry`, `complete` and `fail`."""

from __future__ import annotations

import json

import pytest
from command_line import read_until

ORDER = json.dumps({"order": {"id": "o", "items": ["tea", "mug"]}})


@pytest.fixture
def token(cli):
    """The token of an activity that was left open, and a worker beside it."""
    cli.worker()
    cli("start", "asking", "-i", json.dumps({"folder": str(cli.folder)}), "--id", "a")
    read_until(cli.begin("history", "a", "--follow", "--json").stdout, "attempt_deferred")
    return (cli.folder / "token").read_text()


def test_start_prints_the_id_and_a_worker_runs_it(cli):
    cli.worker()
    started = cli("start", "double", "--input", '{"n": 3}', "--id", "d-1")
    assert (started.code, started.out) == (0, "d-1\n")
    assert cli.result("d-1")["result"] == 6
    assert cli("start", "shop.py:double", "-i", "[3]", "--json").json["workflow"] == "double"


def test_start_checks_what_it_can(cli):
    assert cli("start", "double", "--id", "d").code == 5  # no database, and this command makes none
    cli("run", "shop:double", "-i", "[1]", "--id", "d")
    assert cli("start", "shop:double", "-i", '["x"]').code == 2
    assert cli("start", "double", "-i", "[1]").code == 2
    other = cli("start", "double", "-i", '{"n": 2}', "--id", "d")
    assert other.code == 4
    assert "or --on-conflict replace once" in other.err
    assert cli("start", "shop:double", "-i", '{"n": 1}', "--id", "d").out == "d\n"
    assert cli("start", "double", "--time-limit", "x").code == 2


def test_start_says_that_what_it_joined_has_ended(cli):
    cli("run", "shop:broken", "--id", "b")
    again = cli("start", "broken", "-i", '{"wish": "none"}', "--id", "b")
    assert (again.code, again.out, again.err) == (0, "b\n", "b exists already: failed\n")
    new = cli("start", "broken", "-i", '{"wish": "none"}', "--id", "b", "--on-conflict", "replace")
    assert (new.code, new.err) == (0, "")
    assert cli("start", "broken", "-i", '{"wish": "none"}', "--id", "b").err == ""  # joined, and open


def test_a_started_execution_waits_for_a_worker(cli):
    cli("run", "shop:double")
    cli("start", "double", "--id", "d")
    assert cli("show", "d", "--json").json["info"]["status"] == "pending"
    doctor = cli("doctor")
    assert doctor.code == 1
    assert "1 to begin" in doctor.out
    cli.worker()
    assert cli.result("d")["result"] == 42


def test_pause_and_resume(cli, waiting_order):
    waiting_order("o")
    cli.worker()
    follow = cli.begin("history", "o", "--follow", "--json")
    assert cli("pause", "o", "--reason", "holiday", "--json").json == {"id": "o", "requested": "pause"}
    assert '"holiday"' in read_until(follow.stdout, '"paused"')
    cli("signal", "o", "approved", "true")
    assert cli("show", "o", "--json").json["requests"] == ["signal approved"]
    cli("resume", "o")
    assert cli.result("o")["result"] == ["TEA", "MUG"]


def test_cancel_and_terminate(cli, waiting_order):
    waiting_order("o-1")
    waiting_order("o-2")
    cli.worker()
    assert cli("cancel", "o-1", "--reason", "changed my mind").code == 0
    assert cli("terminate", "o-2").code == 0
    shown = cli.result("o-1")
    assert (shown["info"]["status"], shown["reason"]) == ("cancelled", "changed my mind")
    assert cli.result("o-2")["info"]["status"] == "terminated"


def test_cancel_of_a_blocked_execution_says_that_it_waits(cli, waiting_order):
    waiting_order("o")
    source = (cli.folder / "shop.py").read_text()
    (cli.folder / "shop.py").write_text(source.replace("    await charge(order)\n    state", "    state"))
    cli("signal", "o", "approved", "true")  # wakes it: its history is replayed
    assert cli("run", "shop.py:fulfil", "-i", ORDER, "--id", "o").code == 1
    assert cli("show", "o", "--json").json["info"]["status"] == "blocked"
    done = cli("cancel", "o")
    assert done.code == 0
    assert done.err.startswith("o is blocked: the cancel waits until code that fits its history is running; ")


def test_retry_takes_a_failed_execution_up_again(cli):
    cli("run", "shop:broken", "--id", "b")
    source = (cli.folder / "shop.py").read_text()
    (cli.folder / "shop.py").write_text(source.replace('raise ValueError(f"broken by {wish}")', "return None"))
    assert cli("retry", "b").code == 0
    cli.worker()
    shown = cli.result("b")
    assert (shown["info"]["status"], len(shown["errors"])) == ("completed", 1)


def test_what_cannot_be_asked_is_not_found_or_a_conflict(cli):
    cli("run", "shop:double", "--id", "d")
    for command in ("cancel", "terminate", "pause", "resume", "retry"):
        done = cli(command, "d")
        assert (command, done.code) == (command, 4)
        assert "hint: " in done.err
        assert (command, cli(command, "nothing").code) == (command, 3)
    assert cli("signal", "d", "approved", "true").code == 4
    assert cli("signal", "d", "approved", "yes").code == 2


def test_complete_an_activity_from_outside(cli, token):
    assert cli("complete", token, "true").code == 0
    assert cli.result("a")["result"] is True
    again = cli("complete", token, "true")
    assert again.code == 4


def test_fail_an_activity_from_outside_with_a_class_that_the_workflow_catches(cli, token):
    assert cli("fail", "-", "the boss said no", "--type", "shop:Rejected", input=token + "\n").code == 0
    shown = cli.result("a")
    assert (shown["result"], shown["state"]) == (False, {"rejected": "the boss said no"})


@pytest.mark.parametrize("change", [lambda t: t + "x", lambda t: t[:-4], lambda t: "999" + t, lambda t: "nonsense"])
def test_a_wrong_token_is_refused_at_once(cli, token, change):
    done = cli("complete", change(token), "true")
    assert done.code == 4
    assert "token" in done.err
    assert cli("fail", token, "no", "--type", "not a class").code == 2
