"""A few rounds of `crash_rounds.py`, which can be run for longer, and a look at whether it would notice."""

from __future__ import annotations

import asyncio
import os
import random
from pathlib import Path

import apsw
import pytest
from crash_rounds import Rounds, opened
from replicated_shop import stream
from servers import S3Server, tool

from perdure.replication.restore import restore
from perdure.replication.target import Target

SEED = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
ROUNDS = 3


@pytest.mark.slow
def test_what_comes_back_is_a_prefix_and_has_all_that_was_promised(rclone: S3Server, tmp_path: Path) -> None:
    tool("litestream")
    print(f"SEED={SEED}")
    figures = Rounds(rclone, tmp_path, SEED).run(ROUNDS)
    print(figures)
    assert figures.found == []
    assert figures.rounds == ROUNDS
    assert figures.events > 0


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        ("DELETE FROM perdure_event WHERE execution = 1 AND seq = 2", "is missing, and later ones are there"),
        ("UPDATE perdure_event SET data = 'other' WHERE execution = 1 AND seq = 2", "is not what it was"),
        ("UPDATE perdure_execution SET status = 'running' WHERE num = 1", "was promised, and is running"),
        ("DELETE FROM perdure_execution WHERE num = 1", "was promised, and is not there"),
    ],
)
def test_it_would_notice(rclone: S3Server, bucket_name: str, tmp_path: Path, harm: str, says: str) -> None:
    tool("litestream")
    target = Target.parse(rclone.url(bucket_name, "shop"))
    database = tmp_path / "shop.db"
    asyncio.run(stream(database, target, "a", "b"))
    done = asyncio.run(restore(target, tmp_path / "restored.db"))
    rounds = Rounds(rclone, tmp_path, 0)
    rounds.promised = {"a": "D", "b": "R"}

    class Told:
        said = (("L", "a"), ("R", "b"))

    rounds.compare("untouched", database, done, Told())  # type: ignore[arg-type] # all that is looked at
    assert rounds.figures.found == []
    with opened(done.path) as connection:
        connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
        connection.execute(harm)
    rounds.compare("harmed", database, done, Told())  # type: ignore[arg-type]
    assert any(says in line for line in rounds.figures.found), rounds.figures.found
