"""`savepoint`: what a transactional activity writes commits with the next batch, or is undone alone."""

from __future__ import annotations

import pytest
from store_samples import add, event, row

from perdure.errors import PerdureError, TransactionLost
from perdure.store import Batch, Store

CREATE = "CREATE TABLE IF NOT EXISTS tally (n INTEGER)"


def numbers(store: Store) -> list[int]:
    with store.savepoint() as transaction:
        found = transaction.execute("SELECT n FROM tally ORDER BY n")
    store.rollback()
    return [n for (n,) in found]


@pytest.fixture
def tallied(runner: Store) -> Store:
    with runner.savepoint() as transaction:
        transaction.execute(CREATE)
    runner.commit(Batch())
    return runner


def test_what_the_block_wrote_commits_with_the_batch(tallied, open_store):
    one = row("one")
    with tallied.savepoint() as transaction:
        transaction.execute("INSERT INTO tally VALUES (?)", (1,))
    add(tallied, one)
    successor = open_store()
    successor.become_runner("the next one")
    assert numbers(successor) == [1]
    assert successor.find("one") is not None


def test_without_a_commit_nothing_of_it_is_there(tallied, open_store):
    with tallied.savepoint() as transaction:
        transaction.execute("INSERT INTO tally VALUES (1)")
    tallied.rollback()
    assert numbers(tallied) == []


def test_a_block_that_raises_is_undone_alone(tallied):
    with tallied.savepoint() as transaction:
        transaction.execute("INSERT INTO tally VALUES (1)")
    with pytest.raises(ValueError, match="no"), tallied.savepoint() as transaction:
        transaction.execute("INSERT INTO tally VALUES (2)")
        raise ValueError("no")
    with tallied.savepoint() as transaction:
        transaction.execute("INSERT INTO tally VALUES (3)")
    tallied.commit(Batch())
    assert numbers(tallied) == [1, 3]


def test_a_batch_that_fails_takes_the_blocks_with_it(tallied):
    one = add(tallied, row("one"))
    with tallied.savepoint() as transaction:
        transaction.execute("INSERT INTO tally VALUES (1)")
    batch = Batch()
    batch.events.append((one, event(1)))  # seq 1 is taken
    with pytest.raises(PerdureError):
        tallied.commit(batch)
    assert numbers(tallied) == []


def test_a_block_sees_what_blocks_before_it_wrote(tallied):
    with tallied.savepoint() as transaction:
        transaction.executemany("INSERT INTO tally VALUES (:n)", [{"n": 1}, {"n": 2}])
    with tallied.savepoint() as transaction:
        assert transaction.execute("SELECT count(*) FROM tally") == [(2,)]
    tallied.rollback()


@pytest.mark.parametrize(
    "sql",
    [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "SAVEPOINT mine",
        "DELETE FROM perdure_event",
        "UPDATE perdure_execution SET status = 'completed'",
        "INSERT INTO perdure_meta VALUES ('runner_epoch', 99)",
        "DROP TABLE perdure_event",
        "ALTER TABLE perdure_event ADD COLUMN mine",
        "CREATE TRIGGER t AFTER INSERT ON perdure_event BEGIN SELECT 1; END",
        "DROP VIEW history",
        "DELETE FROM sqlite_sequence",
    ],
)
def test_transaction_control_and_our_own_tables_are_refused(tallied, sql):
    one = add(tallied, row("one"))
    with pytest.raises(PerdureError), tallied.savepoint() as transaction:
        transaction.execute(sql)
    tallied.commit(Batch())
    assert [e.seq for e in tallied.history(one.num)] == [1]


def test_a_table_of_the_user_may_count_by_itself(tallied):
    with tallied.savepoint() as transaction:
        transaction.execute("CREATE TABLE receipt (n INTEGER PRIMARY KEY AUTOINCREMENT, text)")
        transaction.execute("INSERT INTO receipt (text) VALUES ('a')")
    tallied.commit(Batch())
    with tallied.savepoint() as transaction:
        assert transaction.execute("INSERT INTO receipt (text) VALUES ('b') RETURNING n") == [(2,)]
    tallied.rollback()


def test_a_transaction_ends_with_its_block(tallied):
    with tallied.savepoint() as transaction:
        pass
    with pytest.raises(PerdureError, match="has ended"):
        transaction.execute("SELECT 1")
    tallied.rollback()


@pytest.mark.parametrize("swallowed", [False, True])
def test_a_block_that_rolls_back_the_whole_transaction_is_refused(tallied, swallowed):
    with tallied.savepoint() as transaction:
        transaction.execute("CREATE UNIQUE INDEX one ON tally (n)")
        transaction.execute("INSERT INTO tally VALUES (1)")
    with pytest.raises(TransactionLost), tallied.savepoint() as transaction:
        try:
            transaction.execute("INSERT OR ROLLBACK INTO tally VALUES (1)")
        except Exception:
            if not swallowed:
                raise
    tallied.rollback()
    assert numbers(tallied) == []


def test_rollback_without_a_transaction_is_nothing(runner):
    runner.rollback()
    assert add(runner, row("one")).num > 0


def test_others_wait_for_the_open_transaction_and_are_not_lost(tallied, open_store):
    with tallied.savepoint() as transaction:
        transaction.execute("INSERT INTO tally VALUES (1)")
    tallied.commit(Batch())
    other = open_store()
    other.create([(row("other"), [])])
    assert tallied.find("other") is not None
