"""What waits to be uploaded is added up from Litestream's own files."""

from __future__ import annotations

from pathlib import Path

from perdure.replication.waiting import Waiting


def make(folder: Path, *txids: int, size: int = 10) -> None:
    (folder / "ltx" / "0").mkdir(parents=True, exist_ok=True)
    for txid in txids:
        (folder / "ltx" / "0" / f"{txid:016x}-{txid:016x}.ltx").write_bytes(b"x" * size)


def test_what_comes_after_the_bucket_counts(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    assert waiting.bytes(0) == 0
    make(tmp_path, 1, 2, 3)
    assert [waiting.bytes(txid) for txid in (0, 1, 3, 3)] == [30, 20, 0, 0]
    make(tmp_path, 4, size=5)
    make(tmp_path, 6)  # not yet: one is missing before it
    assert waiting.bytes(3) == 5
    make(tmp_path, 5)
    assert waiting.bytes(3) == 25


def test_it_begins_anew_where_litestream_does(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    make(tmp_path, *range(90, 110))
    assert waiting.bytes(100) == 90
    assert waiting.bytes(150) == 0
    make(tmp_path, 1, 2, size=3)
    assert waiting.bytes(0) == 6
    assert waiting.bytes(99) == 100


def test_a_file_is_looked_at_once(tmp_path: Path) -> None:
    waiting = Waiting(tmp_path)
    make(tmp_path, 1)
    assert waiting.bytes(0) == 10
    make(tmp_path, 1, size=99)
    make(tmp_path, 2, size=1)
    assert waiting.bytes(0) == 11
