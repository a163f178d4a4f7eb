"""A file that was cut, in which bits have flipped or pages lie wrong, or that is none of ours, is refused or run."""

from __future__ import annotations

import asyncio
import logging
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from fuzz_canary import watching
from fuzz_command_line import LOOKING, perdure
from fuzz_damage import FRAME, PAGE, WAL_HEADER, Trial, make_crashed
from fuzz_settings import tries
from fuzz_workload import WORKFLOWS, quick
from hypothesis import given, note
from hypothesis import strategies as st

from perdure import Engine
from perdure.errors import StoreError
from perdure.store.sqlite import startup


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    return make_crashed(tmp_path_factory.mktemp("crashed"))


@given(seed=st.integers(0, 2**32))
@tries(16, shrink=False)
def test_whatever_befell_a_file_whoever_opens_it_gets_an_answer(
    crashed: tuple[Path, list[str]], tmp_path: Path, seed: int
):
    trial = Trial(crashed, tmp_path, seed)
    try:
        trial.run()
    finally:
        note("\n".join(trial.notes))


def boundaries(path: Path) -> list[int]:
    """Give where a file may be cut: around its header, around each page, around the frames of a log."""
    size = path.stat().st_size
    edges = range(PAGE, size, PAGE) if path.suffix == ".db" else range(WAL_HEADER, size, FRAME)
    inside = [24] if path.suffix == ".db-wal" else [100]
    places = {0, 1, 15, 16, 18, 31, 32, 99, 100, *edges, *(edge + 1 for edge in edges), *(edge - 1 for edge in edges)}
    return sorted(place for place in places | {edge + more for edge in edges for more in inside} if place < size)


async def opens(database: Path) -> str:
    try:
        async with Engine(database, WORKFLOWS, grace_s=0.0, synchronous="normal") as engine:
            await (await engine.start(quick, "new", id="new")).result(timeout_s=10)
            counts = sum((await engine.counts()).values())
    except StoreError as error:
        return "refused" if error.hint else f"refused without a hint: {error}"
    return f"ran with {counts}"


@pytest.mark.parametrize("suffix", ["", "-wal"])
def test_a_file_that_was_cut_anywhere_is_refused_or_run(crashed: tuple[Path, list[str]], tmp_path: Path, suffix: str):
    base, _ = crashed
    how: dict[int, str] = {}
    for at in boundaries(Path(f"{base}{suffix}")):
        database = tmp_path / f"cut{at}.db"
        for part in ("", "-wal"):
            shutil.copy(f"{base}{part}", f"{database}{part}")
        os.truncate(f"{database}{suffix}", at)
        how[at] = asyncio.run(opens(database))
    assert any(found.startswith("ran") for found in how.values()), how
    assert not [found for found in how.values() if "hint" in found], how
    if suffix == "-wal":  # a log that was cut is a log that ends there
        assert "refused" not in how.values(), how
        sizes = [int(found.split()[-1]) for found in how.values()]
        assert sizes == sorted(sizes), how


NOT_OURS = {
    "text": b"Dear diary, today I was nearly opened.\n" * 200,
    "noise": random.Random(1).randbytes(10_000),
    "zeros": bytes(8192),
    "a header of SQLite and noise": b"SQLite format 3\x00" + random.Random(2).randbytes(8000),
    "a header of SQLite and nothing": b"SQLite format 3\x00",
    "a pickle": b"\x80\x04\x95\x1d\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x8c\x06system\x93\x8c\x04echo\x85R.",
    "an archive": b"PK\x03\x04" + bytes(500),
    "two bytes": b"xx",  # SQLite takes a single one for an empty file
}


@pytest.mark.parametrize("what", NOT_OURS)
def test_a_file_that_is_none_of_ours_is_refused_and_left_as_it_is(tmp_path: Path, what: str):
    database = tmp_path / "other.db"
    database.write_bytes(NOT_OURS[what])
    with watching(tmp_path):
        with pytest.raises(StoreError) as refused:
            asyncio.run(_enter(database))
        assert refused.value.hint
        for command in LOOKING:
            assert perdure(database, *command).code == 5
    assert database.read_bytes() == NOT_OURS[what]


async def _enter(database: Path) -> None:
    async with Engine(database, WORKFLOWS):
        pass


def test_a_large_file_in_which_two_tables_have_changed_places_is_refused(
    crashed: tuple[Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Found by `make fuzz`. Files up to 32 MiB are checked whole; a larger one was read as if nothing were wrong."""
    monkeypatch.setattr(startup, "CHECK_UP_TO_BYTES", 0)
    database = Path(shutil.copy(crashed[0], tmp_path / "swapped.db"))
    tables = ("perdure_event", "perdure_meta")
    connection = apsw.Connection(str(database))
    connection.pragma("writable_schema", True)
    roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE name IN (?, ?)", tables))
    for name, other in (tables, tables[::-1]):
        connection.execute("UPDATE sqlite_schema SET rootpage = ? WHERE name = ?", (roots[other], name))
    connection.close()

    with pytest.raises(StoreError, match=r"swapped\.db is damaged"):
        asyncio.run(_enter(database))


@pytest.mark.parametrize("name", ["/dev/null", "/dev/zero", "/dev/full", "/dev/urandom", "/proc/self/mem", "/"])
def test_what_is_no_file_is_refused(name: str):
    with pytest.raises(StoreError):
        asyncio.run(_enter(Path(name)))
    assert perdure(Path(name), "list").code == 5


def test_links_beside_a_file_are_not_followed(crashed: tuple[Path, list[str]], tmp_path: Path):
    """The lock file is cut and written to: whatever it leads to would be lost."""
    database = Path(shutil.copy(crashed[0], tmp_path / "linked.db"))
    precious = tmp_path / "precious"
    precious.write_text("do not touch")
    (tmp_path / "linked.db-lock").symlink_to(precious)
    with pytest.raises(StoreError, match=r"linked\.db-lock"):
        asyncio.run(_enter(database))
    for command in LOOKING:
        perdure(database, *command)
    assert precious.read_text() == "do not touch"


def test_rings_reach_pipes_only(crashed: tuple[Path, list[str]], tmp_path: Path):
    """A ring is a byte: it must not go into a file that lies in the folder of pipes, or that a link there leads to."""
    database = Path(shutil.copy(crashed[0], tmp_path / "rung.db"))
    precious = tmp_path / "client-precious"
    precious.write_text("do not touch")
    folder = tmp_path / "rung.db-wake"
    folder.mkdir()
    (folder / "client-1-link").symlink_to(precious)
    (folder / "runner-1-file").write_text("nor this")
    for name in ("runner-²-x", f"runner-{2**70}-x", "client--5-x", "\udcff", "runner-1-folder"):
        (folder / name).mkdir()
    assert asyncio.run(opens(database)).startswith("ran")
    assert perdure(database, "signal", "receiver-0", "approved", '"x"').code == 0
    assert precious.read_text() == "do not touch"
    assert (folder / "runner-1-file").read_text() == "nor this"


def test_pipes_of_the_dead_are_removed_and_nothing_else(crashed: tuple[Path, list[str]], tmp_path: Path):
    """The folder of pipes may be a link to any other folder, such as the user's own."""
    database = Path(shutil.copy(crashed[0], tmp_path / "link.db"))
    home = tmp_path / "home"
    (home / "folder").mkdir(parents=True)
    (home / "letter").write_text("do not touch")
    for name in (f"client-{2**22 + 1}-dead", "runner-²-x", f"runner-{2**70}-x"):
        os.mkfifo(home / name)
    (tmp_path / "link.db-wake").symlink_to(home)
    assert asyncio.run(opens(database)).startswith("ran")
    assert sorted(path.name for path in home.iterdir()) == ["folder", "letter"]
