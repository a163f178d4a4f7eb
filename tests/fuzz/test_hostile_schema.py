"""A file whose schema somebody else wrote: refused where it reaches into perdure's tables, else left alone."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import apsw
import pytest
from fuzz_canary import watching
from fuzz_command_line import LOOKING, perdure
from fuzz_workload import WORKFLOWS, prepare, quick

from perdure import Client, Engine
from perdure.errors import NotOurFile, StoreError
from perdure.store.sqlite import schema


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("schema") / "base.db"
    asyncio.run(prepare(path, sets=1))
    return path


@pytest.fixture
def database(prepared: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(prepared, tmp_path / "hostile.db"))


def rewrite(database: Path, sql: str) -> None:
    """Run SQL as a stranger would, with the schema itself open to writing."""
    connection = apsw.Connection(str(database))
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 0)
    connection.execute(sql)
    connection.close()


async def open_both(database: Path) -> None:
    async with Engine(database, WORKFLOWS, grace_s=0.0) as engine:
        await (await engine.start(quick, "new", id="new")).result(timeout_s=20)


COPIED = "CREATE TABLE kept AS SELECT * FROM perdure_event; DROP TABLE perdure_event;"
REFUSED = {
    "a trigger that undoes": "CREATE TRIGGER t AFTER INSERT ON perdure_event BEGIN DELETE FROM perdure_event; END",
    "a trigger that refuses": """CREATE TRIGGER t BEFORE UPDATE ON perdure_execution BEGIN
        SELECT RAISE(ABORT, 'no'); END""",
    "a trigger that asks": """CREATE TRIGGER t AFTER INSERT ON perdure_event BEGIN
        INSERT INTO perdure_inbox (execution, what, at) VALUES (NEW.execution, 'terminate', 0); END""",
    "a trigger that never ends": """CREATE TRIGGER t AFTER INSERT ON perdure_event BEGIN
        INSERT INTO perdure_inbox (execution, what, at)
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i, 'x', 0 FROM n; END""",
    "a trigger with a name that steers": 'CREATE TRIGGER "\x1b[2J" AFTER INSERT ON perdure_event BEGIN SELECT 1; END',
    "a trigger that loads a library": """CREATE TRIGGER t AFTER INSERT ON perdure_event BEGIN
        SELECT load_extension('/tmp/owned.so'); END""",
    "a unique index": "CREATE UNIQUE INDEX i ON perdure_event (kind, ref, name, data, execution)",
    "an index on an expression": "CREATE INDEX i ON perdure_event (abs(seq))",
    "a view in place of a table": COPIED + "CREATE VIEW perdure_event AS SELECT * FROM kept",
    "a view that writes elsewhere": COPIED
    + """CREATE VIEW perdure_event AS SELECT * FROM kept;
        CREATE TRIGGER t INSTEAD OF INSERT ON perdure_event BEGIN SELECT 1; END""",
    "a table of other types": COPIED + "CREATE TABLE perdure_event AS SELECT * FROM kept",
    "a table with a check": COPIED
    + """CREATE TABLE perdure_event (execution INTEGER NOT NULL, seq INTEGER NOT NULL CHECK (seq < 3),
        kind INTEGER NOT NULL, at INTEGER NOT NULL, ref INTEGER, name TEXT, data ANY, blob BLOB,
        PRIMARY KEY (execution, seq)) STRICT, WITHOUT ROWID""",
    "a generated column": "ALTER TABLE perdure_timer ADD COLUMN more INTEGER AS (abs(due_at) - 9)",
    "one column more": "ALTER TABLE perdure_execution ADD COLUMN more TEXT NOT NULL DEFAULT 'x'",
    "one column renamed": "ALTER TABLE perdure_event RENAME COLUMN data TO date",
    "a table that is missing": "DROP TABLE perdure_heartbeat",
    "an index that is missing": "DROP INDEX perdure_inbox_execution",
    "a view of another meaning": "DROP VIEW executions; CREATE VIEW executions AS SELECT * FROM perdure_meta",
    "a virtual table in place of a table": """DROP TABLE perdure_blob;
        CREATE VIRTUAL TABLE perdure_blob USING fts5(digest, body)""",
    "names in capitals": "ALTER TABLE perdure_event RENAME TO x; ALTER TABLE x RENAME TO PERDURE_EVENT",
    "a version that there never was": "PRAGMA user_version = 0",
    "a version below all": "PRAGMA user_version = -1",
    "a version of the future": "PRAGMA user_version = 2147483647",
    "another program's mark": "PRAGMA application_id = 5",
    "a schema that cannot be parsed": """PRAGMA writable_schema = 1;
        UPDATE sqlite_master SET sql = 'CREATE TABLE perdure_event (nonsense' WHERE name = 'perdure_event'""",
    "a root page that is not there": """PRAGMA writable_schema = 1;
        UPDATE sqlite_master SET rootpage = 999999 WHERE name = 'perdure_event'""",
    "two tables on one page": """PRAGMA writable_schema = 1;
        UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name = 'perdure_timer')
        WHERE name = 'perdure_event'""",
    "text where the schema holds text": """PRAGMA writable_schema = 1;
        UPDATE sqlite_master SET sql = CAST(x'435245415445ff' AS TEXT) WHERE name = 'perdure_event'""",
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_a_schema_that_reaches_into_perdures_tables_is_refused(database: Path, tmp_path: Path, what: str):
    rewrite(database, REFUSED[what])
    with watching(tmp_path):
        with pytest.raises(StoreError) as refused:
            asyncio.run(open_both(database))
        assert refused.value.hint
        for command in LOOKING:
            said = perdure(database, *command)
            assert said.code in (1, 5) or command[0] != "doctor", said


async def test_a_client_refuses_it_too(database: Path):
    rewrite(database, REFUSED["a trigger that asks"])
    with pytest.raises(StoreError, match="did not make the trigger 't' on its table perdure_event"):
        async with Client(database):
            pass


LEFT_ALONE = {
    "tables of one's own": "CREATE TABLE customer (name TEXT); CREATE INDEX customer_name ON customer (name)",
    "triggers of one's own": """CREATE TABLE a (x); CREATE TABLE b (x);
        CREATE TRIGGER a_b AFTER INSERT ON a BEGIN INSERT INTO b VALUES (NEW.x); END""",
    "views of one's own": "CREATE VIEW mine AS SELECT id, status FROM perdure_execution",
    "a view that cannot be run": "CREATE VIEW broken AS SELECT one FROM nowhere",
    "a full text index": "CREATE VIRTUAL TABLE notes USING fts5(text); INSERT INTO notes VALUES ('x')",
    "statistics": "ANALYZE",
    "an open WITH NO END in a view": """CREATE VIEW endless AS
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n""",
    "another cache and page order": "PRAGMA default_cache_size = 10; VACUUM",
}


@pytest.mark.parametrize("what", LEFT_ALONE)
def test_what_stands_beside_perdures_tables_is_left_alone(database: Path, what: str):
    rewrite(database, LEFT_ALONE[what])
    asyncio.run(open_both(database))
    assert perdure(database, "show", "new").code == 0


def test_every_version_of_the_schema_is_known(tmp_path: Path):
    for version in range(1, len(schema.migrations()) + 1):
        path = tmp_path / f"v{version}.db"
        connection = apsw.Connection(str(path))
        for sql in schema.migrations()[:version]:
            connection.execute(sql)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}; PRAGMA user_version = {version}")
        assert schema.check(connection, path) == version
        connection.execute("ALTER TABLE perdure_event ADD COLUMN more TEXT")
        with pytest.raises(NotOurFile, match="table perdure_event is not as perdure made it"):
            schema.check(connection, path)
        connection.close()


META = {
    "no epoch": "DELETE FROM perdure_meta WHERE key = 'runner_epoch'",
    "an epoch that is text": "UPDATE perdure_meta SET value = 'os.system' WHERE key = 'runner_epoch'",
    "an epoch that is no text either": "UPDATE perdure_meta SET value = CAST(x'ff' AS TEXT) WHERE key = 'runner_epoch'",
    "the last epoch": "UPDATE perdure_meta SET value = 9223372036854775807 WHERE key = 'runner_epoch'",
    "an epoch below all": "UPDATE perdure_meta SET value = -1 WHERE key = 'runner_epoch'",
    "the last number of an execution": "UPDATE perdure_execution SET num = 9223372036854775807 WHERE num = 1",
    "the last number noted": "INSERT INTO perdure_meta VALUES ('last_num', 9223372036854775807)",
    "the last number of events": "UPDATE perdure_event SET n = 9223372036854775807 WHERE execution = 1 AND seq = 1",
    "the last number of a request": "UPDATE perdure_inbox SET n = 9223372036854775807",
    "a mark of encryption": "INSERT INTO perdure_meta VALUES ('encoded', 1)",
}


@pytest.mark.parametrize("what", META)
def test_facts_about_the_file_that_cannot_be_are_refused(database: Path, what: str):
    rewrite(database, META[what])
    with pytest.raises(StoreError) as refused:
        asyncio.run(open_both(database))
    assert refused.value.hint
    for command in LOOKING:
        perdure(database, *command)


@pytest.mark.parametrize("value", ["'x'", "x'00'", "NULL", "-5", "0.5", "CAST(x'ff' AS TEXT)"])
def test_numbers_are_given_on_whatever_is_noted_as_the_last(database: Path, value: str):
    rewrite(database, f"INSERT INTO perdure_meta VALUES ('last_num', {value})")
    asyncio.run(open_both(database))


def test_a_new_execution_never_gets_a_number_under_which_there_are_events(database: Path):
    sql = "INSERT INTO perdure_event (n, kind, at) SELECT (max(num) + 1) << 24 | 1, 2, 0 FROM perdure_execution"
    rewrite(database, sql)
    asyncio.run(open_both(database))
    assert perdure(database, "doctor").code == 1
