"""What a new runner finds in and beside the file, and what it does about it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys

import apsw
import pytest

from perdure import Engine, workflow
from perdure.errors import StoreError
from perdure.store.sqlite import startup


@workflow
async def one() -> int:
    return 1


async def run_one(database) -> int:
    async with Engine(database, workflows=[one]) as engine:
        return await (await engine.start(one)).result()


async def test_pipes_of_dead_processes_are_removed_and_others_kept(database):
    await run_one(database)
    folder = database.with_name(database.name + "-wake")
    folder.mkdir(exist_ok=True)
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    os.mkfifo(folder / f"client-{dead.pid}-aaaaaaaa")
    os.mkfifo(folder / f"client-{os.getpid()}-bbbbbbbb")
    async with Engine(database, workflows=[one]) as engine:
        assert await (await engine.start(one)).result() == 1
        assert not (folder / f"client-{dead.pid}-aaaaaaaa").exists()
        assert (folder / f"client-{os.getpid()}-bbbbbbbb").exists()


async def test_another_journal_mode_is_put_back(database):
    await run_one(database)
    other = apsw.Connection(str(database))
    assert other.pragma("journal_mode", "delete") == "delete"
    other.close()
    async with Engine(database, workflows=[one]) as engine:
        assert await (await engine.start(one)).result() == 1
        assert engine.store.reader.connection.pragma("journal_mode") == "wal"


async def test_a_damaged_index_is_found_before_anything_runs(database):
    await run_one(database)
    connection = apsw.Connection(str(database))
    connection.pragma("journal_mode", "delete")  # everything into the file itself
    page = connection.execute(
        "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_perdure_execution_1'"
    ).get
    connection.close()
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(os.urandom(4096))
    with pytest.raises(StoreError, match="damaged") as caught:
        await run_one(database)
    assert "restore a backup" in caught.value.hint


async def test_a_nearly_full_disk_is_told(database, monkeypatch, caplog):
    monkeypatch.setattr(startup, "LOW_SPACE_BYTES", 1 << 62)
    with caplog.at_level(logging.WARNING, logger="perdure.store"):
        await run_one(database)
    assert "are free on its disk" in caplog.text
