"""Deleting what is closed and old, and giving its room back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

import apsw
import pytest

from perdure import Client, Engine, Signal, Status, activity, workflow

go = Signal("go", str)


class Clock:
    """A wall clock that the test sets."""

    def __init__(self) -> None:
        self.us = 1_700_000_000_000_000

    def __call__(self) -> int:
        self.us += 1
        return self.us

    def advance(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


@workflow
async def one(n: int = 0) -> int:
    return n


@workflow
async def fails() -> None:
    raise ValueError


@workflow
async def waits() -> str:
    return await go.receive()


@workflow
async def mother() -> str:
    await one(1)
    return await go.receive()


@activity
async def noise() -> str:
    return os.urandom(20_000).hex()


@workflow
async def heavy(n: int) -> str:
    return await noise()


async def ids(client) -> set[str]:
    return {info.id for info in await client.list()}


async def test_by_age(database):
    clock = Clock()
    async with Engine(database, workflows=[one], now=clock) as engine:
        await (await engine.start(one, id="old")).result()
        clock.advance(100)
        await (await engine.start(one, id="new")).result()
        assert await engine.gc(older_than_s=50) == 1
        assert await ids(engine) == {"new"}
        assert await engine.gc(older_than_s=50) == 0


async def test_by_count_keeps_the_newest(database):
    async with Engine(database, workflows=[one], now=Clock()) as engine:
        for n in range(10):
            await (await engine.start(one, id=f"x{n}")).result()
        assert await engine.gc(keep=3) == 7
        assert await ids(engine) == {"x7", "x8", "x9"}
        assert await engine.gc(keep=3) == 0
        assert await engine.gc(keep=0) == 3


async def test_by_status(database):
    async with Engine(database, workflows=[one, fails, waits]) as engine:
        await (await engine.start(one, id="ok")).result()
        with pytest.raises(ValueError):  # noqa: PT011
            await (await engine.start(fails, id="bad")).result()
        execution = await engine.start(waits, id="gone")
        await execution.cancel()
        with pytest.raises(Exception, match="cancelled"):
            await execution.result()
        assert await engine.gc(status=(Status.FAILED,)) == 1
        assert await ids(engine) == {"ok", "gone"}
        assert await engine.gc(status=(Status.CANCELLED, Status.COMPLETED)) == 2


async def test_conditions_together_must_all_hold(database):
    clock = Clock()
    async with Engine(database, workflows=[one], now=clock) as engine:
        for n in range(4):
            await (await engine.start(one, id=f"x{n}")).result()
            clock.advance(10)
        assert await engine.gc(older_than_s=25, keep=1) == 2
        assert await ids(engine) == {"x2", "x3"}


async def test_without_a_condition_it_refuses(database):
    async with Engine(database, workflows=[one]) as engine:
        with pytest.raises(ValueError, match="say what to delete"):
            await engine.gc()


async def test_a_dry_run_only_counts(database):
    async with Engine(database, workflows=[one]) as engine:
        for n in range(5):
            await (await engine.start(one, id=f"x{n}")).result()
        assert await engine.gc(keep=2, dry_run=True) == 3
        assert len(await ids(engine)) == 5


async def test_open_executions_and_children_of_open_parents_stay(database):
    async with Engine(database, workflows=[waits, mother]) as engine:
        await engine.start(waits, id="w")
        execution = await engine.start(mother, id="m")
        await engine.execution("m/one-2").result()
        assert await engine.gc(keep=0) == 0
        assert await ids(engine) == {"w", "m", "m/one-2"}
        await execution.signal(go, "on")
        await execution.result()
        assert await engine.gc(keep=0) == 2
        assert await ids(engine) == {"w"}


async def test_nothing_of_a_deleted_execution_is_left(database):
    async with Engine(database, workflows=[mother]) as engine:
        execution = await engine.start(mother, id="m", timeout_s=1000)
        await execution.signal(go, "on")
        await execution.result()
        await engine.gc(keep=0)
        connection = engine.store.reader.connection
        for table in ("execution", "event", "state", "timer", "inbox", "heartbeat", "blob"):
            assert connection.execute(f"SELECT count(*) FROM perdure_{table}").get == 0, table
        assert all(ok for _, ok, _ in engine.store.check(quick=False))


async def test_the_file_gets_smaller_and_progress_is_told(database):
    async with Engine(database, workflows=[heavy]) as engine:
        for n in range(60):
            await (await engine.start(heavy, n, id=f"x{n}")).result()
        engine.store.reader.connection.execute("SELECT 1")
    before = database.stat().st_size
    told: list[int] = []
    async with Client(database) as client:
        assert await client.gc(keep=5, batch=10, progress=told.append) == 55
        assert len(await client.list()) == 5
        assert client.store.reader.connection.pragma("freelist_count") == 0
    after = database.stat().st_size
    assert after < before / 4
    assert sum(told) == 55
    assert max(told) <= 10


async def test_while_the_engine_runs(database):
    @activity
    async def work(n: int) -> int:
        return n

    @workflow
    async def job(n: int) -> int:
        return sum([await work(n) for _ in range(5)])

    async with Engine(database, workflows=[job]) as engine, Client(database) as client:

        async def drive(n: int) -> int:
            return await (await engine.start(job, n, id=f"x{n}")).result()

        async def sweep() -> int:
            total = 0
            for _ in range(10):
                total += await client.gc(keep=3, batch=7)
            return total

        results, swept = await asyncio.gather(asyncio.gather(*(drive(n) for n in range(200))), sweep())
        assert results == [n * 5 for n in range(200)]
        swept += await client.gc(keep=3)
        assert swept == 197
        assert all(ok for _, ok, _ in client.store.check(quick=False))


async def test_a_client_may_start_and_signal_while_it_cleans_up(database):
    async with Engine(database, workflows=[one, waits]) as engine:
        for n in range(300):
            await engine.start(one, n, id=f"x{n}")
        await engine.execution("x299").result()
        await engine.start(waits, id="w")
        async with Client(database) as client:

            async def ask() -> None:
                for n in range(100):
                    await client.start(one, n, id=f"y{n}")
                    await client.execution("w").signal("other", n)

            await asyncio.gather(client.gc(keep=0, batch=2), ask())
            await client.execution("w").signal(go, "end")
            assert await client.execution("w").result() == "end"
            heard = [event.value() async for event in client.execution("w").history() if event.name == "other"]
            assert heard == list(range(100))


async def test_it_ends_also_where_the_file_cannot_give_pages_back(database):
    made = apsw.Connection(str(database))  # before we could ask for incremental vacuum
    made.pragma("journal_mode", "wal")
    made.close()
    async with Engine(database, workflows=[large]) as engine:
        for _ in range(20):
            await (await engine.start(large)).result()
        assert await asyncio.wait_for(engine.gc(keep=1), 20) == 19


@workflow
async def large() -> str:
    return "x" * 10_000


class Checkpointing(apsw.VFS):
    """Opens files whose checkpoints call `meanwhile` before their first write, while they hold their lock."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        super().__init__("checkpointing", "")
        self.meanwhile: Callable[[], None] | None = meanwhile

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        if not flags[0] & apsw.SQLITE_OPEN_MAIN_DB:
            return super().xOpen(name, flags)
        vfs = self

        class File(apsw.VFSFile):
            def xWrite(self, data: bytes, offset: int) -> None:
                meanwhile, vfs.meanwhile = vfs.meanwhile, None
                if meanwhile is not None:
                    meanwhile()
                super().xWrite(data, offset)

        return File("", name, flags)


async def test_room_is_given_back_while_another_connection_checkpoints(database):
    """Found by the long run: who checkpoints at the same moment as `gc` is no reason for it to fail."""
    async with Engine(database, workflows=[one]) as engine, Client(database) as client:
        await (await engine.start(one, id="x")).result()
        outcomes: list[object] = []

        def vacuum() -> None:
            try:
                outcomes.append(client.store.vacuum(10))
            except Exception as error:
                outcomes.append(error)

        vfs = Checkpointing(vacuum)
        other = apsw.Connection(str(database), vfs="checkpointing")
        other.execute("SELECT * FROM perdure_meta").fetchall()
        other.wal_checkpoint()
        assert outcomes == [0]
        other.close()
        vfs.unregister()
