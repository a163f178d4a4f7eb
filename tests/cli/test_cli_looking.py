"""`perdure list`, `show` and `history`, in a pipe and as JSON."""

from __future__ import annotations

import json
import os
import subprocess

from command_line import PERDURE, read_until


def ids(done):
    return [row[0] for row in done.rows]


def test_list_filters_and_pages(cli):
    for number in range(3):
        cli("run", "shop:double", "-i", f"[{number}]", "--id", f"d-{number}")
    cli("run", "shop:broken", "--id", "b-1")
    cli("run", "shop:loop", "-i", "[2]", "--id", "l-1")

    assert ids(cli("list")) == ["l-1", "l-1", "l-1", "b-1", "d-2", "d-1", "d-0"]
    assert ids(cli("list", "--workflow", "double", "--limit", 2)) == ["d-2", "d-1"]
    assert ids(cli("list", "--limit", 2, "--after", "d-2")) == ["d-1", "d-0"]
    assert ids(cli("list", "--limit", 2, "--after", "l-1#2")) == ["l-1", "b-1"]
    assert ids(cli("list", "--status", "failed", "--status", "continued")) == ["l-1", "l-1", "b-1"]
    assert ids(cli("list", "--prefix", "d-", "--since", "1h")) == ["d-2", "d-1", "d-0"]
    assert ids(cli("list", "--older", "1h")) == ids(cli("list", "--until", "2020-01-01")) == []
    assert cli("list", "--after", "nothing").code == 3


def test_list_writes_plain_rows_and_json_lines(cli):
    cli("run", "shop:broken", "-i", '["a\\ttab"]', "--id", "b-1")
    (row,) = cli("list").rows
    assert (row[0], row[1], row[2], row[3], row[6]) == ("b-1", "1", "broken", "failed", "ValueError: broken by a\\ttab")
    (info,) = cli("list", "--json").lines
    assert (info["id"], info["status"], info["error"]) == ("b-1", "failed", "ValueError: broken by a\ttab")


def test_list_wrong_use(cli):
    cli("run", "shop:double")
    assert cli("list", "--status", "lost").code == 2
    assert cli("list", "--since", "yesterday").code == 2
    assert cli("list", "--watch").code == 2
    assert cli("list", "--db", "other.db").code == 5


def test_show_tells_everything(cli, waiting_order):
    waiting_order("o-1")
    shown = cli("show", "o-1", "--json").json
    assert shown["info"]["status"] == "waiting"
    assert shown["state"] == {"step": "waiting"}
    assert shown["input"] == {"order": {"id": "o-1", "items": ["tea", "mug"]}}
    assert [(error["attempt"], error["name"]) for error in shown["errors"]] == [(1, "charge"), (2, "charge")]
    assert shown["activities_done"] == 2

    facts = cli("show", "o-1").rows
    assert ["waits for", "a signal"] in facts
    assert ["state", "step", '"waiting"'] in facts
    assert facts[-1][-1] == "ConnectionError: no route to \\x1b[31mthe bank"


def test_show_has_the_tree_of_children_and_the_result(cli, waiting_order):
    waiting_order("o-1")
    cli.worker()
    cli("signal", "o-1", "approved", "true")
    shown = cli.result("o-1")
    assert shown["result"] == ["TEA", "MUG"]
    assert [child["info"]["workflow"] for child in shown["children"]] == ["ship", "ship"]
    rows = cli("show", "o-1", "--children", 1).rows
    assert [row[:2] for row in rows if row[0] == "child"] == [["child", "1"]] * 2  # one and a `…`
    assert not [row for row in cli("show", "o-1", "--depth", 0).rows if row[0] == "child"]


def test_show_names_the_next_attempt_and_the_failure(cli):
    assert cli("run", "shop:patient", "--id", "p", "--timeout", "300ms").code == 124
    (pending,) = cli("show", "p", "--json").json["pending"]
    assert (pending["name"], pending["attempt"], pending["error"]) == ("call_tomorrow", 2, "ConnectionError: busy")
    assert "due_at" in pending
    cli("run", "shop:broken", "--id", "b")
    assert cli("show", "b", "--json").json["failure"]["message"] == "broken by none"
    assert cli("show", "b", "--run", 2).code == cli("show", "nothing").code == 3


def test_show_lists_as_open_only_what_may_still_happen(cli):
    assert cli("run", "shop:patient", "--id", "p", "--timeout", "300ms").code == 124
    cli.worker()
    cli("terminate", "p")
    assert cli.result("p")["pending"] == []
    assert not [row for row in cli("show", "p").rows if row[0] == "activity"]


def test_a_run_that_is_not_there_is_told_from_an_id_that_is_not_there(cli):
    cli("run", "shop:loop", "-i", "[1]", "--id", "ln")
    for command in ("show", "history"):
        done = cli(command, "ln", "--run", 9)
        assert done.code == 3
        assert "execution ln has no run 9; the newest is 2" in done.err
        assert "there is no execution nothing" in cli(command, "nothing", "--run", 9).err


def test_a_closed_stdout_ends_the_command_quietly(cli):
    cli("run", "shop:double", "--id", "d")
    done = subprocess.run(
        ["sh", "-c", f"{PERDURE} list >&-"], cwd=cli.folder, env=cli.environment, stderr=subprocess.PIPE, check=False
    )
    assert (done.returncode, done.stderr) == (1, b"")


def test_history_in_a_pipe_and_as_json(cli):
    cli("run", "shop:double", "-i", "[4]", "--id", "d")
    rows = cli("history", "d").rows
    assert [row[0] for row in rows] == ["1", "2"]
    assert [row[2] for row in rows] == ["started", "completed"]
    assert [event["data"] for event in cli("history", "d", "--json").lines] == [{"n": 4, "note": ""}, 8]
    assert [event["seq"] for event in cli("history", "d", "--json", "--after", 1).lines] == [2]
    assert cli("history", "nothing").code == 3


def test_history_of_one_run(cli):
    cli("run", "shop:loop", "-i", "[2]", "--id", "l")
    assert cli("history", "l", "--run", 1, "--json").lines[-1]["kind"] == "continued"
    assert cli("history", "l", "--json").lines[-1]["data"] == "done"
    assert cli("history", "l", "--run", 4).code == 3


def test_follow_prints_events_as_they_come_and_ends_with_the_execution(cli, waiting_order):
    waiting_order("o-1")
    cli.worker()
    follow = cli.begin("history", "o-1", "--follow", "--json")
    read_until(follow.stdout, '"state_set"')
    cli("signal", "o-1", "approved", "false")
    rest = [json.loads(line)["kind"] for line in follow.stdout]
    assert rest[-2:] == ["signal_received", "failed"]
    assert follow.wait(30) == 0


def test_follow_goes_along_to_the_next_run(cli):
    cli.worker()
    cli("run", "shop:loop", "-i", "[0]", "--id", "first")
    cli("start", "loop", "-i", '{"left": 2}', "--id", "l")
    assert cli("history", "l", "--follow", "--json").lines[-1]["data"] == "done"
    assert cli("history", "l", "--run", 1, "--follow", "--json").lines[-1]["kind"] == "continued"


def test_a_reader_that_goes_away_is_no_error(cli):
    cli("run", "shop:double", "--id", "d")
    reading, writing = os.pipe()
    os.close(reading)
    process = cli.begin("history", "d", stdout=writing)
    os.close(writing)
    assert (process.wait(30), process.stderr.read()) == (0, "")


def test_an_encrypted_database_is_listed_without_its_key_and_read_with_it(cli):
    keys = "k1:" + "QUFB" * 10 + "QUE="
    cli("run", "shop:broken", "--id", "b", PERDURE_KEYS=keys)
    assert cli("list").rows[0][6] == "(not readable without its key)"
    without = cli("show", "b")
    assert without.code == 5
    assert "set PERDURE_KEYS" in without.err
    assert cli("list", PERDURE_KEYS=keys).rows[0][6] == "ValueError: broken by none"
    assert cli("show", "b", PERDURE_KEYS="nonsense").code == 2


def test_the_database_may_come_from_the_environment(cli):
    cli("run", "shop:double", "--db", "other.db", "--id", "d")
    assert ids(cli("list", PERDURE_DB="other.db")) == ["d"]
    assert ids(cli("list", "--db", "sqlite:other.db", PERDURE_DB="wrong.db")) == ["d"]
    assert "the name of the database is empty" in cli("list", "--db", "").err
