"""What an engine or client does with the file that it is given."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import textwrap

import pytest

from perdure import Client, Engine, workflow
from perdure.errors import NotOurFile, SchemaTooNew, StoreError
from perdure.store.sqlite import schema


@workflow
async def one() -> int:
    return 1


def shell(database, sql: str) -> str:
    """Run SQL with the sqlite3 program, as a person would."""
    done = subprocess.run(["sqlite3", str(database), sql], capture_output=True, text=True, check=True)
    return done.stdout


def digest(path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("opener", [lambda path: Engine(path, workflows=[one]), Client])
async def test_a_file_that_is_no_database_is_refused_and_left_as_it_is(database, opener):
    database.write_bytes(b"Dear diary, today I was nearly overwritten. " * 100)
    before = digest(database)
    with pytest.raises(NotOurFile, match="is not a SQLite database"):
        async with opener(database):
            pass
    assert digest(database) == before


@pytest.mark.parametrize("opener", [lambda path: Engine(path, workflows=[one]), Client])
async def test_a_database_of_another_program_is_refused_and_left_as_it_is(database, opener):
    shell(database, "CREATE TABLE customer (name TEXT); INSERT INTO customer VALUES ('Ann')")
    before = digest(database)
    with pytest.raises(NotOurFile, match="not one of perdure's"):
        async with opener(database):
            pass
    assert digest(database) == before
    assert shell(database, "PRAGMA journal_mode") == "delete\n"


async def test_a_newer_schema_is_refused_with_what_to_do(database):
    async with Engine(database, workflows=[one]) as engine:
        await (await engine.start(one, id="x")).result()
    shell(database, f"PRAGMA user_version = {len(schema.migrations()) + 1}")
    before = shell(database, "SELECT * FROM perdure_event; SELECT * FROM perdure_meta")
    with pytest.raises(SchemaTooNew, match="schema version") as caught:
        async with Engine(database, workflows=[one]):
            pass
    assert "upgrade" in caught.value.hint
    assert shell(database, "SELECT * FROM perdure_event; SELECT * FROM perdure_meta") == before


async def test_an_empty_file_becomes_a_database(database):
    database.touch()
    async with Engine(database, workflows=[one]) as engine:
        assert await (await engine.start(one)).result() == 1
    assert shell(database, "PRAGMA application_id") == f"{schema.APPLICATION_ID}\n"
    assert shell(database, "PRAGMA journal_mode") == "wal\n"
    assert shell(database, "PRAGMA auto_vacuum") == "2\n"


async def test_an_older_schema_is_brought_up_to_date_with_its_content(database, monkeypatch):
    every = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: every[:1])
    async with Engine(database, workflows=[one]) as engine:
        await (await engine.start(one, id="old")).result()
    assert shell(database, "PRAGMA user_version") == "1\n"
    monkeypatch.undo()
    async with Engine(database, workflows=[one]) as engine:
        assert await engine.execution("old", one).result() == 1
    assert shell(database, "PRAGMA user_version") == f"{len(every)}\n"
    assert "old|" in shell(database, "SELECT id, status FROM executions")


async def test_a_migration_that_fails_leaves_the_file_at_the_version_before(database, monkeypatch):
    async with Engine(database, workflows=[one]) as engine:
        await (await engine.start(one, id="x")).result()
    every = schema.migrations()
    monkeypatch.setattr(schema, "migrations", lambda: (*every, "CREATE TABLE perdure_new (x); SELECT broken"))
    with pytest.raises(StoreError, match="broken"):
        async with Engine(database, workflows=[one]):
            pass
    assert shell(database, "PRAGMA user_version") == f"{len(every)}\n"
    assert shell(database, "SELECT count(*) FROM sqlite_master WHERE name = 'perdure_new'") == "0\n"
    monkeypatch.undo()
    async with Engine(database, workflows=[one]) as engine:
        assert await engine.execution("x", one).result() == 1


async def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(StoreError, match=r"folder .*nowhere does not exist"):
        Engine(tmp_path / "nowhere" / "a.db", workflows=[one])


async def test_a_folder_in_place_of_a_file_is_named(tmp_path):
    with pytest.raises(StoreError, match="is a folder"):
        Engine(tmp_path, workflows=[one])


@pytest.mark.parametrize("name", ["", ":memory:", "postgres://localhost/x", "mysql://x"])
async def test_what_is_no_file_name_is_refused(name):
    with pytest.raises(StoreError):
        Engine(name, workflows=[one])


@pytest.mark.parametrize("form", ["sqlite:{}", "sqlite://{}"])
async def test_a_url_names_the_same_file(database, form):
    async with Engine(form.format(database), workflows=[one]) as engine:
        await (await engine.start(one)).result()
    assert database.exists()


async def test_a_folder_that_may_not_be_written_to_is_a_clear_error():
    script = """
        import os, sys
        from pathlib import Path
        from perdure.errors import StoreError
        from perdure.store.sqlite import SqliteStore

        if os.geteuid() == 0:
            os.setuid(65534)  # root may write everywhere
        try:
            SqliteStore(Path(sys.argv[1]) / "a.db")
        except StoreError as error:
            print(error)
    """
    with tempfile.TemporaryDirectory() as folder:  # not under tmp_path, which only its owner may enter
        os.chmod(folder, 0o555)
        command = [sys.executable, "-c", textwrap.dedent(script), folder]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot be opened" in done.stdout
    assert "hint: check that its folder exists and may be written to" in done.stdout


async def test_a_damaged_file_is_a_clear_error(database):
    async with Engine(database, workflows=[one]) as engine:
        await (await engine.start(one)).result()
    content = bytearray(database.read_bytes())
    for page in range(1, len(content) // 4096):
        content[page * 4096 : page * 4096 + 200] = os.urandom(200)
    database.write_bytes(content)
    for left in (f"{database}-wal", f"{database}-shm"):
        if os.path.exists(left):
            os.unlink(left)
    with pytest.raises(StoreError, match=r"damaged|not a SQLite database|malformed") as caught:
        async with Engine(database, workflows=[one]) as engine:
            await (await engine.start(one)).result(timeout_s=5)
    assert caught.value.hint


async def test_two_workflows_of_one_name_are_refused(database):
    @workflow(name="one")
    async def other() -> int:
        return 2

    with pytest.raises(ValueError, match="two workflows are named one"):
        Engine(database, workflows=[one, other])


async def test_normal_durability_is_an_option_and_other_words_are_refused(database):
    async with Engine(database, workflows=[one], synchronous="normal") as engine:
        assert engine._runner_store.writer.connection.pragma("synchronous") == 1
        await (await engine.start(one)).result()
    async with Engine(database, workflows=[one]) as engine:
        assert engine._runner_store.writer.connection.pragma("synchronous") == 2
    with pytest.raises(ValueError, match='"full" or "normal"'):
        Engine(database, workflows=[one], synchronous="off")
