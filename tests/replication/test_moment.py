"""A file at one moment: digests that tell any difference, and copies that hold nobody up."""

from __future__ import annotations

import asyncio
import shutil
import threading
from contextlib import closing
from pathlib import Path

import apsw
import pytest

from perdure import Engine, activity, workflow
from perdure.errors import StoreError
from perdure.store.sqlite.moment import Moment, TableDigest, copy, lost, standing_still
from perdure.testing.audit.audit import audit


@activity
async def add(n: int) -> int:
    return n + 1


@workflow
async def count(n: int) -> int:
    for _ in range(3):
        n = await add(n)
    return n


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """A closed database with some executions, and a table of the user's own."""
    path = tmp_path / "shop.db"

    async def fill() -> None:
        async with Engine(path, workflows=[count]) as engine:
            for n in range(5):
                await (await engine.start(count, n, id=str(n))).result()

    asyncio.run(fill())
    with closing(apsw.Connection(str(path))) as connection:
        connection.execute("CREATE TABLE mine (name TEXT PRIMARY KEY, value)")
        connection.executemany("INSERT INTO mine VALUES (?, ?)", [("a", 1), ("b", 2.5), ("c", None), ("d", b"x")])
    return path


def change(path: Path, *statements: str) -> None:
    """Change a file. With the library that we use: closing another one's connection would drop our locks."""
    with closing(apsw.Connection(str(path))) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def digests(path: Path) -> dict[str, TableDigest]:
    with Moment(path) as moment:
        return moment.digests()


@pytest.mark.parametrize(
    ("table", "statement"),
    [
        ("perdure_event", "UPDATE perdure_event SET data = '77' WHERE execution = 3 AND kind = 3 AND seq = 3"),
        ("perdure_event", "DELETE FROM perdure_event WHERE execution = 5 AND seq = 8"),
        ("perdure_execution", "UPDATE perdure_execution SET status = 'failed' WHERE num = 2"),
        ("perdure_state", "INSERT INTO perdure_state VALUES (1, 'step', '1')"),
        ("mine", "UPDATE mine SET value = '1' WHERE name = 'a'"),  # a text, no number any more
        ("mine", "ALTER TABLE mine ADD COLUMN more"),
        ("mine", "DROP TABLE mine"),
        ("mine", "UPDATE mine SET value = CAST(x'ff' AS TEXT) WHERE name = 'a'"),  # no UTF-8
    ],
)
def test_a_digest_tells_any_change_of_its_table_and_of_no_other(shop: Path, table: str, statement: str) -> None:
    before = digests(shop)
    change(shop, statement)
    after = digests(shop)
    assert {name for name in before if before[name] != after.get(name)} == {table}


def test_text_that_is_none_is_told_apart_too(shop: Path) -> None:
    change(shop, "UPDATE mine SET value = CAST(x'ff' AS TEXT) WHERE name = 'a'")
    before = digests(shop)
    change(shop, "UPDATE mine SET value = CAST(x'fe' AS TEXT) WHERE name = 'a'")
    assert digests(shop)["mine"] != before["mine"]


def test_digests_do_not_depend_on_where_rows_lie_or_on_what_litestream_keeps(shop: Path) -> None:
    before = digests(shop)
    change(shop, "DELETE FROM mine", "INSERT INTO mine VALUES ('d', x'78'), ('c', NULL), ('b', 2.5), ('a', 1)")
    change(shop, "CREATE TABLE _litestream_seq (id INTEGER PRIMARY KEY, seq INTEGER)")
    assert digests(shop) == before


def test_a_moment_does_not_see_what_comes_later(shop: Path) -> None:
    before = digests(shop)
    with Moment(shop) as moment:
        change(shop, "INSERT INTO mine VALUES ('late', 1)")
        assert moment.digests() == before


def test_while_it_stands_still_nobody_writes(shop: Path) -> None:
    with closing(apsw.Connection(str(shop))) as other:
        with standing_still(shop), pytest.raises(apsw.BusyError):
            other.execute("INSERT INTO mine VALUES ('late', 1)")
        other.execute("INSERT INTO mine VALUES ('later', 1)")


def test_a_copy_is_a_sound_database_with_the_same_content(shop: Path, tmp_path: Path) -> None:
    copy(shop, tmp_path / "copy.db")
    assert digests(tmp_path / "copy.db") == digests(shop)
    assert audit(tmp_path / "copy.db") == []
    assert (tmp_path / "copy.db").stat().st_mode & 0o777 == 0o600


def test_a_copy_writes_over_nothing(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("mine")
    with pytest.raises(FileExistsError):
        copy(shop, tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "mine"


class Between(threading.Event):
    """Asked now and then by what takes long: then it writes to the file, once."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.connection = apsw.Connection(str(path))
        self.wrote = 0

    def is_set(self) -> bool:
        if not self.wrote:
            self.connection.execute("INSERT INTO mine VALUES ('meanwhile', 1)")
            self.wrote = self.connection.total_changes()
        return super().is_set()


def grow(path: Path) -> None:
    numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)"
    change(path, f"{numbers} INSERT INTO mine SELECT 'row ' || i, randomblob(20) FROM n")


def test_a_writer_is_not_held_up_by_a_copy(shop: Path, tmp_path: Path) -> None:
    grow(shop)
    before, between = digests(shop), Between(shop)
    copy(shop, tmp_path / "copy.db", between)
    assert between.wrote == 1, "nobody wrote while the copy was made"
    between.connection.close()
    assert digests(tmp_path / "copy.db") == before, "the copy is of the moment at which it was begun"


def test_a_copy_and_a_digest_stop_when_told_to(shop: Path, tmp_path: Path) -> None:
    grow(shop)
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoreError):
        copy(shop, tmp_path / "copy.db", stop)
    with pytest.raises(StoreError), Moment(shop, stop) as moment:
        moment.digests()


def test_lost_events_are_counted_and_deleted_executions_told(shop: Path, tmp_path: Path) -> None:
    later = tmp_path / "later.db"
    shutil.copy(shop, later)
    assert lost(shop, later) == (0, 0)
    change(later, "INSERT INTO perdure_event VALUES (5 << 24 | 9, 10, 1, NULL, 'more', '1', NULL)")
    assert lost(shop, later) == (0, 0), "more events are what a later state has"
    change(later, "DELETE FROM perdure_event WHERE execution = 1", "DELETE FROM perdure_execution WHERE num = 1")
    assert lost(shop, later) == (0, 1)
    change(later, "UPDATE perdure_event SET at = at + 1 WHERE execution = 3 AND seq = 2")
    change(later, "DELETE FROM perdure_event WHERE execution = 4 AND seq > 6")
    assert lost(shop, later) == (3, 1)
