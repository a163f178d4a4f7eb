"""A failed execution whose id another process takes, or that it deletes, while a retry is on its way stays closed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest

from perdure import Engine, PerdureError, Signal, Status, workflow
from perdure.events import Event, Kind
from perdure.store import ExecutionRow
from perdure.store.sqlite import SqliteStore

go = Signal("go", str)
PATIENCE_S = 20.0


class Broken(Exception):
    pass


@workflow
async def fails(how: str) -> str:
    if how == "fails":
        raise Broken
    return await go.receive()


@workflow
async def calls() -> str:
    return await fails.options(id="child")("fails")


def replace(store: SqliteStore, id: str) -> None:
    """Start another run, as a client in another process does."""
    found = store.find(id)
    assert found is not None
    row = ExecutionRow(id, "fails", found.created_at, run=found.run + 1)
    store.create([(row, [Event(1, Kind.STARTED, found.created_at, None, "fails", '{"how":"waits"}')])])


def delete(store: SqliteStore, id: str) -> None:
    found = store.find(id)
    assert found is not None
    assert store.delete([found.num]) == 1


@pytest.fixture
def just_before_the_commit(monkeypatch, database):
    """Have another process do something to an execution between what the runner reads and what it writes."""
    commit = SqliteStore.commit
    with contextlib.closing(SqliteStore(database)) as other:

        def install(act: Callable[[SqliteStore, str], None], id: str) -> None:
            left = [id]

            def late(self, batch):
                if left:
                    act(other, left.pop())
                commit(self, batch)

            monkeypatch.setattr(SqliteStore, "commit", late)

        yield install


async def _runs(engine: Engine, id: str) -> list[Status]:
    newest = (await engine.describe(id)).run
    return [(await engine.describe(id, run)).status for run in range(1, newest + 1)]


async def test_an_execution_that_is_replaced_in_the_moment_of_its_retry_is_not_reopened(
    database, just_before_the_commit
):
    async with Engine(database, workflows=[fails]) as engine:
        execution = await engine.start(fails, "fails", id="x")
        with pytest.raises(Broken):
            await execution.result(PATIENCE_S)
        just_before_the_commit(replace, "x")
        with pytest.raises(PerdureError, match="not failed"):
            await execution.retry()
        await execution.signal(go, "on")
        assert await engine.execution("x", fails).result(PATIENCE_S) == "on"
        assert await _runs(engine, "x") == [Status.FAILED, Status.COMPLETED]
        assert [event.kind async for event in engine.execution("x").history(run=1)] == ["started", "failed"]


async def test_an_execution_that_is_deleted_in_the_moment_of_its_retry_leaves_nothing_behind(
    database, just_before_the_commit
):
    async with Engine(database, workflows=[fails]) as engine:
        execution = await engine.start(fails, "fails", id="x")
        with pytest.raises(Broken):
            await execution.result(PATIENCE_S)
        just_before_the_commit(delete, "x")
        with pytest.raises(PerdureError, match="unknown"):
            await execution.retry()
        assert [finding for finding in engine.store.check(quick=False) if not finding[1]] == []


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
async def test_a_child_whose_id_another_run_has_taken_is_not_reopened_with_its_parent(
    database, just_before_the_commit, moment
):
    async with Engine(database, workflows=[calls, fails]) as engine:
        execution = await engine.start(calls, id="x")
        with pytest.raises(Broken):
            await execution.result(PATIENCE_S)
        if moment == "before":
            await engine.start(fails, "waits", id="child", on_conflict="replace")
        else:
            just_before_the_commit(replace, "child")
        await execution.retry()
        with pytest.raises(Broken):  # it hears the same of its child as before
            await execution.result(PATIENCE_S)
        await engine.execution("child").signal(go, "on")
        assert await engine.execution("child", fails).result(PATIENCE_S) == "on"
        assert await _runs(engine, "child") == [Status.FAILED, Status.COMPLETED]
