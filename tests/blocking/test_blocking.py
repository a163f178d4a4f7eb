"""The blocking facade."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from perdure import Client, Engine, Signal, activity, state, workflow
from perdure.blocking import Blocking
from perdure.errors import EngineClosed, ExecutionNotFound

approved = Signal("approved", bool)


@activity
def double(n: int) -> int:
    return n * 2


@workflow
def chain(n: int) -> int:
    state["step"] = "doubling"
    first = double(n)
    return double(first)


@workflow
async def waits(name: str) -> str:
    return f"{name}: {await approved.receive()}"


@workflow
async def fails() -> None:
    raise KeyError("gone")


def test_starts_and_gives_results_without_async(tmp_path: Path):
    with Blocking(Engine(tmp_path / "b.db", workflows=[chain, waits])) as engine:
        execution = engine.start(chain, 5, id="c")
        assert execution.result(timeout_s=20) == 20
        assert execution.state() == {"step": "doubling"}
        assert execution.info().id == "c"
        assert execution.history()[0].kind == "started"
        assert [info.id for info in engine.list()] == ["c"]
        waiting = engine.start(waits, "order")
        waiting.signal(approved, True)
        assert waiting.result(timeout_s=20) == "order: True"


def test_raises_what_the_workflow_raised(tmp_path: Path):
    with Blocking(Engine(tmp_path / "b.db", workflows=[fails])) as engine, pytest.raises(KeyError, match="gone"):
        engine.start(fails).result(timeout_s=20)


def test_serves_several_threads_at_once(tmp_path: Path):
    results: list[int] = []
    with Blocking(Engine(tmp_path / "b.db", workflows=[chain])) as engine:

        def work(n: int) -> None:
            results.append(engine.start(chain, n).result(timeout_s=20))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(results) == [4 * n for n in range(8)]


def test_says_when_it_is_not_open(tmp_path: Path):
    blocking = Blocking(Engine(tmp_path / "b.db", workflows=[chain]))
    with pytest.raises(EngineClosed, match="not open"):
        blocking.start(chain, 1)


def test_a_failed_opening_leaves_no_thread(tmp_path: Path):
    before = threading.active_count()
    with pytest.raises(Exception, match="no database"), Blocking(Client(tmp_path / "none.db")):
        pass
    assert threading.active_count() == before


def test_unknown_executions_are_named(tmp_path: Path):
    blocking = Blocking(Engine(tmp_path / "b.db", workflows=[chain]))
    with blocking as engine, pytest.raises(ExecutionNotFound, match="nope"):
        engine.execution("nope").result(timeout_s=5)
