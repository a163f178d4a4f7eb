"""Transactional activities: what they write commits together with their result, exactly once."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from perdure import Engine, Retry, Transaction, activity, current_attempt, workflow
from perdure.errors import PayloadTooLarge, PerdureError, StoreFull
from perdure.store.sqlite import SqliteStore

ONCE = Retry(attempts=1)
FAST = Retry(attempts=3, initial_s=0)


@activity(transactional=True, retry=FAST)
def book(db: Transaction, account: str, amount: int) -> int:
    db.execute("CREATE TABLE IF NOT EXISTS booking (account TEXT, amount INTEGER)")
    db.execute("INSERT INTO booking VALUES (?, ?)", (account, amount))
    ((total,),) = db.execute("SELECT sum(amount) FROM booking WHERE account = ?", (account,))
    return total


@workflow
async def books(account: str, amounts: list[int]) -> list[int]:
    return [await book.submit(account, amount) for amount in amounts]


def rows(database, sql):
    connection = sqlite3.connect(database)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


async def test_its_writes_are_in_the_same_file(database):
    async with Engine(database, workflows=[books]) as engine:
        assert await (await engine.start(books, "a", [1, 2, 3])).result() == [1, 3, 6]
    assert rows(database, "SELECT account, amount FROM booking") == [("a", 1), ("a", 2), ("a", 3)]


async def test_it_takes_named_parameters_and_many_rows(database):
    @activity(transactional=True)
    def fill(db: Transaction) -> list[int]:
        db.execute("CREATE TABLE word (w TEXT, n INTEGER)")
        db.executemany("INSERT INTO word VALUES (?, ?)", [("a", 1), ("b", 2)])
        db.execute("INSERT INTO word VALUES (:w, :n)", {"w": "c", "n": 3})
        return [n for (n,) in db.execute("SELECT n FROM word ORDER BY n")]

    @workflow
    async def job() -> list[int]:
        return await fill.submit()

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == [1, 2, 3]


async def test_an_error_rolls_its_writes_back_and_it_is_tried_again(database):
    @activity(transactional=True, retry=FAST)
    def flaky(db: Transaction) -> int:
        db.execute("CREATE TABLE IF NOT EXISTS booking (attempt INTEGER)")
        db.execute("INSERT INTO booking VALUES (?)", (current_attempt().number,))
        if current_attempt().number < 3:
            raise ConnectionError("not yet")
        return current_attempt().number

    @workflow
    async def job() -> int:
        return await flaky.submit()

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == 3
    assert rows(database, "SELECT * FROM booking") == [(3,)]


async def test_an_error_of_one_does_not_touch_what_others_write_in_the_same_batch(database):
    @activity(transactional=True, retry=ONCE)
    def insert(db: Transaction, n: int) -> None:
        db.execute("CREATE TABLE IF NOT EXISTS number (n INTEGER)")
        db.execute("INSERT INTO number VALUES (?)", (n,))
        if n % 2:
            raise ValueError("odd")

    @workflow
    async def job() -> int:
        done = await asyncio.gather(*(insert.submit(n) for n in range(10)), return_exceptions=True)
        return sum(isinstance(outcome, ValueError) for outcome in done)

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == 5
    assert rows(database, "SELECT n FROM number ORDER BY n") == [(0,), (2,), (4,), (6,), (8,)]


@pytest.mark.parametrize("fail_at", range(1, 12))
async def test_it_takes_effect_exactly_once_whichever_commit_fails(database, monkeypatch, fail_at):
    count = 0
    commit = SqliteStore.commit

    def failing(self, batch):
        nonlocal count
        count += 1
        if count == fail_at:
            raise StoreFull("injected")
        commit(self, batch)

    async with Engine(database, workflows=[books]) as engine:
        execution = await engine.start(books, "a", [1, 2, 3], id="x")
        monkeypatch.setattr(SqliteStore, "commit", failing)
        assert await execution.result() == [1, 3, 6]
    assert rows(database, "SELECT amount FROM booking ORDER BY rowid") == [(1,), (2,), (3,)]


async def test_a_kill_in_the_middle_leaves_no_half_and_it_is_done_once(database, spawn):
    script = """
        import asyncio, os, sys
        from perdure import Engine, Transaction, activity, workflow

        @activity(transactional=True)
        def book(db: Transaction, deadly: bool) -> int:
            db.execute("CREATE TABLE IF NOT EXISTS booking (n INTEGER)")
            db.execute("INSERT INTO booking VALUES (1)")
            if sys.argv[2] == "die":
                os._exit(9)
            return 1

        @workflow
        async def job() -> int:
            return await book.submit(True)

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                execution = await engine.start(job, id="x")
                print(await execution.result())

        asyncio.run(main())
    """
    for _ in range(3):
        assert spawn(script, database, "die").wait() == 9
        assert rows(database, "SELECT name FROM sqlite_master WHERE name = 'booking'") == []
    assert spawn(script, database, "live").communicate()[0] == "1\n"
    assert rows(database, "SELECT n FROM booking") == [(1,)]


REFUSED = {
    "COMMIT": "transaction control",
    "ROLLBACK": "transaction control",
    "BEGIN": "transaction control",
    "END": "transaction control",
    "SAVEPOINT mine": "transaction control",
    "RELEASE activity": "transaction control",
    "ROLLBACK TO activity": "transaction control",
    "ATTACH ':memory:' AS other": "ATTACH",
    "PRAGMA synchronous = OFF": "PRAGMA",
    "PRAGMA journal_mode = DELETE": "PRAGMA",
    "VACUUM": "cannot VACUUM from within a transaction|not allowed",
    "DELETE FROM perdure_event": "perdure's own",
    "UPDATE perdure_execution SET status = 'failed'": "perdure's own",
    "INSERT INTO perdure_meta VALUES ('a', 1)": "perdure's own",
    "insert into PERDURE_META values ('a', 1)": "perdure's own",
    "DROP TABLE perdure_event": "perdure's own",
    "DROP VIEW executions": "perdure's own",
    "DROP INDEX perdure_execution_status": "perdure's own",
    "ALTER TABLE perdure_event ADD COLUMN x": "perdure's own",
    "CREATE TABLE perdure_mine (x)": "perdure's own",
    "CREATE INDEX other ON perdure_event (at)": "perdure's own",
    "CREATE TRIGGER mine AFTER INSERT ON perdure_event BEGIN SELECT 1; END": "perdure's own",
    "CREATE TEMP TABLE perdure_event (x)": "perdure's own",
    "CREATE TEMP VIEW executions AS SELECT 1": "perdure's own",
    "CREATE VIRTUAL TABLE perdure_text USING fts5(x)": "perdure's own",
    "CREATE TEMP TRIGGER mine AFTER INSERT ON perdure_event BEGIN SELECT 1; END": "perdure's own",
    "WITH x AS (SELECT 1) DELETE FROM perdure_timer": "perdure's own",
    "REPLACE INTO perdure_meta VALUES ('a', 1)": "perdure's own",
    "SELECT 1; DELETE FROM perdure_event": "perdure's own",
}


@pytest.mark.parametrize("sql", REFUSED)
async def test_what_would_break_the_file_is_refused(database, sql):
    @activity(transactional=True, retry=ONCE)
    def bad(db: Transaction) -> None:
        db.execute("CREATE TABLE IF NOT EXISTS mine (n INTEGER)")
        db.execute(sql)

    @workflow
    async def job() -> None:
        await bad.submit()

    async with Engine(database, workflows=[job, books]) as engine:
        with pytest.raises(Exception, match=REFUSED[sql]):  # VACUUM is refused by SQLite itself
            await (await engine.start(job)).result()
        assert await (await engine.start(books, "a", [1])).result() == [1], "the engine goes on"
    assert rows(database, "SELECT name FROM sqlite_master WHERE name = 'mine'") == []
    assert rows(database, "SELECT count(*) FROM perdure_event")[0][0] > 5


async def test_a_trigger_of_the_user_cannot_reach_our_tables_either(database):
    @activity(transactional=True, retry=ONCE)
    def sly(db: Transaction) -> None:
        db.execute("CREATE TABLE mine (n INTEGER)")
        db.execute("CREATE TRIGGER t AFTER INSERT ON mine BEGIN DELETE FROM perdure_event; END")
        db.execute("INSERT INTO mine VALUES (1)")

    @workflow
    async def job() -> None:
        await sly.submit()

    async with Engine(database, workflows=[job]) as engine:
        with pytest.raises(PerdureError, match="perdure's own"):
            await (await engine.start(job)).result()


async def test_reading_our_views_is_allowed(database):
    @activity(transactional=True)
    def count(db: Transaction) -> int:
        ((n,),) = db.execute("SELECT count(*) FROM executions WHERE status IN ('running', 'waiting', 'pending')")
        return n

    @workflow
    async def job() -> int:
        return await count.submit()

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == 1


async def test_the_transaction_is_closed_to_use_after_its_activity(database):
    kept = []

    @activity(transactional=True)
    def leak(db: Transaction) -> None:
        kept.append(db)

    @workflow
    async def job() -> None:
        await leak.submit()

    async with Engine(database, workflows=[job]) as engine:
        await (await engine.start(job)).result()
        with pytest.raises(PerdureError, match="this transaction has ended"):
            kept[0].execute("SELECT 1")
        with pytest.raises(PerdureError, match="this transaction has ended"):
            kept[0].executemany("SELECT ?", [(1,)])


async def test_what_it_raises_beside_exceptions_is_its_failure_too(database):
    """Control flow that makes no sense in a transaction must not stop the engine."""

    @activity(transactional=True, retry=ONCE)
    def odd(db: Transaction, what: str) -> None:
        db.execute("CREATE TABLE mine (n INTEGER)")
        if what == "later":
            current_attempt().finish_later()
        raise {"exit": SystemExit(3), "cancel": asyncio.CancelledError()}[what]

    @workflow
    async def job(what: str) -> str:
        try:
            await odd.submit(what)
        except BaseException as error:
            return f"{type(error).__name__}: {error}"
        return "nothing"

    async with Engine(database, workflows=[job, books]) as engine:
        for what in ("later", "exit", "cancel"):
            outcome = await (await engine.start(job, what)).result(timeout_s=10)
            assert outcome != "nothing"
            if what == "later":
                assert "finish_later" in outcome
        assert await (await engine.start(books, "a", [1])).result() == [1]
    assert rows(database, "SELECT name FROM sqlite_master WHERE name = 'mine'") == []


async def test_a_result_over_the_limit_fails_it_and_rolls_back(database):
    @activity(transactional=True, retry=FAST)
    def big(db: Transaction) -> str:
        db.execute("CREATE TABLE mine (n INTEGER)")
        return "x" * 5_000

    @workflow
    async def job() -> None:
        await big.submit()

    async with Engine(database, workflows=[job], max_payload_bytes=4_096) as engine:
        with pytest.raises(PayloadTooLarge):
            await (await engine.start(job)).result(timeout_s=10)
    assert rows(database, "SELECT name FROM sqlite_master WHERE name = 'mine'") == []


def test_outside_an_engine_it_is_the_plain_function():
    class Fake:
        def execute(self, sql, parameters=()):
            return [(7,)]

    assert book(Fake(), "a", 7) == 7


def test_only_a_plain_def_can_be_transactional():
    with pytest.raises(TypeError, match="needs a plain `def`"):

        @activity(transactional=True)
        async def wrong(db: Transaction) -> None: ...
