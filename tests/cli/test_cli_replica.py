"""`status`, `drill` and `restore --snapshot`, and the worker's options for them, with a replica in a folder."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from command_line import PATIENCE_S, Cli, read_until


@pytest.fixture
def url(tmp_path: Path) -> str:
    if not (Path(sys.executable).with_name("litestream").exists() or shutil.which("litestream")):
        reason = "litestream is not installed: make setup"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    return f"file://{tmp_path}/bucket"


def until(read: Callable[[], Any], wanted: Callable[[Any], object]) -> Any:
    deadline = time.monotonic() + PATIENCE_S
    while not wanted(found := read()):
        assert time.monotonic() < deadline, found
        time.sleep(0.1)
    return found


def status(cli: Cli, db: object) -> Callable[[], Any]:
    return lambda: cli("status", "--db", db, "--json").json


def test_a_database_without_replica_says_so(cli: Cli) -> None:
    cli("run", "shop.py:double", "--id", "d")
    done = cli("status")
    assert done.code == 0
    assert dict(done.rows) == {
        "database": str(cli.database),
        "runner": "none: start one with `perdure worker`",
        "executions": "1 completed",
        "waiting": "nothing",
        "replica": "none",
    }
    assert cli("start", "double").code == 0
    assert dict(cli("status").rows)["waiting"].startswith("1 execution")
    refused = cli("status", "--metrics")
    assert (refused.code, "is not replicated" in refused.err) == (2, True)
    assert cli("status", "--metrics", "--json").code == 2
    assert cli("status", "--db", "nothing.db").code == 5
    assert cli("status", "--db", f"file://{cli.folder}/nothing").code == 1


def test_what_a_worker_does_beside_the_stream_is_seen_and_can_be_used(cli: Cli, url: str) -> None:
    worker = cli.worker("--replicate", url, "--snapshot-every", "1h", "--drill-every", "1h", "--snapshots-keep", "3")
    cli("start", "double", "--id", "d")
    cli.result("d")
    found = until(
        status(cli, cli.database),
        lambda told: (told["replication"] or {}).get("drill_at") and not told["replication"]["lag_commits"],
    )
    told = found["replication"]
    assert (told["drill_ok"], told["problem"], told["chores"], told["litestream"]) == (True, None, {}, "running"), told
    assert told["url"] == url
    assert told["snapshot_at"]
    assert found["runner"]["pid"] == worker.pid
    assert found["counts"] == {"completed": 1}
    assert (cli.folder / "perdure.db-replication").stat().st_mode & 0o777 == 0o600

    rows = dict(cli("status").rows)
    assert (rows["replica"], rows["epoch"], rows["problem"]) == (url, "1", "none")
    assert "nothing wrong" in rows["drill"]
    metrics = cli("status", "--metrics").out
    assert f'perdure_replication_lag_commits{{database="{cli.database}"}} 0\n' in metrics
    assert "perdure_replication_drill_ok" in metrics

    drilled = cli("drill", url, "shop.py", "--json")
    assert (drilled.code, drilled.json["ok"]) == (0, True), drilled.out
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert not (cli.folder / "perdure.db-replication").exists()
    assert status(cli, cli.database)()["replication"] is None

    there = status(cli, url)()
    assert (there["runner"], there["counts"], there["replication"]["litestream"]) == (None, {"completed": 1}, "stopped")

    restored = cli("restore", url, "-o", "copy.db", "--snapshot", "latest", "--json")
    assert (restored.code, restored.json["standing"]) == (0, "snapshot"), restored.err
    assert "what came later is not in it" in restored.err
    assert cli("restore", url, "-o", "other.db", "--snapshot", "latest", "--epoch", 1).code == 2
    assert cli("restore", url, "-o", "other.db", "--snapshot", "none-of-this-name").code == 1

    shutil.rmtree(cli.folder / "bucket" / "00000001")
    broken = cli("drill", url)
    assert broken.code == 1
    assert {check for verdict, check, _ in broken.rows if verdict == "problem"} == {"content", "restore"}


def test_a_killed_worker_leaves_no_status_of_its_own(cli: Cli, url: str) -> None:
    worker = cli.worker("--replicate", url)
    until(status(cli, cli.database), lambda told: told["replication"])
    worker.kill()
    worker.wait()
    assert (cli.folder / "perdure.db-replication").exists()
    found = status(cli, cli.database)()
    assert (found["runner"], found["replication"]) == (None, None)


def test_a_worker_from_a_bucket_is_seen_from_anywhere(cli: Cli, url: str) -> None:
    worker = cli.begin("worker", "shop.py", "--db", url, "--lease", "5s")
    read_until(worker.stderr, "runner with epoch")
    until(lambda: cli("status", "--db", url).code, lambda code: code == 0)  # nothing lies there at first
    found = until(status(cli, url), lambda told: told.get("runner"))
    assert (found["replication"]["lease"], found["silent"]) == ("held", False)
    assert found["runner"]["holder"] == found["replication"]["holder"]
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert status(cli, url)()["replication"]["lease"] == "released"


def test_wrong_use_is_refused(cli: Cli, url: str) -> None:
    for wrong in (
        ["worker", "shop.py", "--drill-every", "1h"],
        ["worker", "shop.py", "--snapshot-every", "1h"],
        ["worker", "shop.py", "--replicate", url, "--drill-every", "0"],
        ["worker", "shop.py", "--replicate", "https://bucket/x"],
        ["drill", "not-a-url"],
        ["drill", url, "--folder", "missing"],
        ["drill", url, "missing.py"],
    ):
        done = cli(*wrong)
        assert (done.code, "error: " in done.err) == (2, True), wrong


def test_a_worker_streams_to_where_the_file_says(cli: Cli, url: str) -> None:
    text = f'[worker]\nreplicate = "{url}"\nreplica-late = "go-on"\nupload-every = "150ms"\n'
    (cli.folder / "perdure.toml").write_text(text)
    worker = cli.worker()
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(PATIENCE_S) == 0
    assert (cli.folder / "bucket" / "current.json").exists()
