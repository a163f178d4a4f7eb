"""Files that are removed, replaced or moved while they are open: nobody is told that something is in the file which is
no longer there."""

from __future__ import annotations

import os
import shutil
import sqlite3

import pytest

from perdure import Client, Engine, Signal, activity, workflow
from perdure.errors import StoreReplaced
from perdure.store.sqlite import SqliteStore

approved = Signal("approved", str)


@activity
async def step(name: str) -> str:
    return name


@workflow
async def waits() -> list[str]:
    return [await step("a"), await approved.receive(), await step("b")]


@workflow
async def short(n: int) -> int:
    return n


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr("perdure.engine.faults.WAIT_S", (0.001, 0.01))


@pytest.mark.parametrize("end", ["", "-wal", "-shm"])
@pytest.mark.parametrize("replaced", [False, True], ids=["removed", "replaced"])
async def test_nothing_is_acknowledged_until_the_file_is_back(place, end, replaced):
    path = place()
    file, kept = path.with_name(path.name + end), path.with_name("kept")
    async with Engine(path, [waits, short]) as engine:
        execution = await engine.start(waits, id="x")
        assert await (await engine.start(short, 1)).result() == 1
        file.rename(kept)
        if replaced:
            shutil.copy(kept, file)
        word = "replaced" if replaced else "removed"
        for ask in (lambda: engine.start(short, 2, id="refused"), lambda: execution.signal(approved, "yes")):
            with pytest.raises(StoreReplaced, match=f"{file.name} was {word} while it was open") as caught:
                await ask()
            assert "put it back, or restart" in caught.value.hint
        kept.rename(file)
        await execution.signal(approved, "yes")
        assert await execution.result(timeout_s=20) == ["a", "yes", "b"]
    with sqlite3.connect(path) as plain:
        assert plain.execute("SELECT id, status FROM executions WHERE id IN ('x', 'refused')").fetchall() == [
            ("x", "completed")
        ]


async def test_a_removal_is_seen_however_soon_it_comes_after_a_commit(place):
    for _ in range(20):
        path = place()
        async with Engine(path, [short]) as engine:
            await engine.start(short, 1)
            path.unlink()
            with pytest.raises(StoreReplaced):
                await engine.start(short, 2)


async def test_a_client_is_told_as_well(place):
    path = place()
    SqliteStore(path).close()
    async with Client(path) as client:
        await client.start(short, 1, id="before")
        os.replace(shutil.copy(path, path.with_name("copy")), path)
        with pytest.raises(StoreReplaced, match=r"fault\.db was replaced"):
            await client.start(short, 2, id="after")
    async with Client(path) as client:  # restarted, it works on what is there now
        await client.start(short, 2, id="after")


async def test_a_folder_that_is_moved_away(place):
    path = place()
    away = path.parent.with_name("away")
    async with Engine(path, [short]) as engine:
        await engine.start(short, 1)
        path.parent.rename(away)
        with pytest.raises(StoreReplaced, match="was removed"):
            await engine.start(short, 2, id="refused")
        away.rename(path.parent)
        assert await (await engine.start(short, 3)).result(timeout_s=20) == 3


async def test_closing_leaves_the_database_alone_that_has_taken_the_place(place):
    """Its log has the same name as ours had, and closing the last connection deletes the log by name."""
    path = place()
    ours, theirs = Engine(path, [waits]), Engine(path, [waits])
    await ours.__aenter__()
    await ours.start(waits, id="ours")
    for end in ("", "-wal", "-shm", "-lock"):
        path.with_name(path.name + end).unlink()
    await theirs.__aenter__()
    execution = await theirs.start(waits, id="theirs")
    await ours.__aexit__(None, None, None)
    assert path.with_name(path.name + "-wal").exists()
    await execution.signal(approved, "yes")
    assert await execution.result(timeout_s=20) == ["a", "yes", "b"]
    await theirs.__aexit__(None, None, None)
    with sqlite3.connect(path) as plain:
        assert plain.execute("SELECT id, status FROM executions").fetchall() == [("theirs", "completed")]


async def test_what_was_moved_away_is_complete_once_it_is_closed(place):
    """The log stays behind under the old name, so what is in it has to be in the database."""
    path = place()
    moved = path.with_name("moved.db")
    async with Engine(path, [short]) as engine:
        await engine.start(short, 1, id="x")
        path.rename(moved)
    with sqlite3.connect(moved) as plain:
        assert plain.execute("SELECT id FROM executions").fetchall() == [("x",)]
