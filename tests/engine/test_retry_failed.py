"""`retry` opens a failed execution again just before what made it fail."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from perdure import Engine, Retry, Signal, activity, current_attempt, workflow
from perdure.client.token import seal
from perdure.errors import ExecutionTimedOut
from perdure.store import Parked
from perdure.store.sqlite import SqliteStore

broken = True
go = Signal("go", int)


@activity
async def fetch(n: int) -> int:
    return n


@activity(retry=Retry(attempts=1))
async def fragile(n: int) -> int:
    if broken:
        raise ConnectionError("down")
    return n


@workflow
async def fails_at_once(n: int) -> int:
    if broken:
        raise ValueError("at once")
    return await fetch(n)


@workflow
async def fails_after_a_result(n: int) -> int:
    got = await fetch(n)
    if broken:
        raise ValueError("after a result")
    return got + await fetch(n)


@workflow
async def fails_with_its_activity(n: int) -> int:
    return await fetch(n) + await fragile(n)


@workflow
async def fails_after_a_signal(n: int) -> int:
    got = await go.receive()
    if broken:
        raise ValueError("after a signal")
    return got + await fetch(n)


@workflow
async def fails_with_its_child(n: int) -> int:
    return await fails_after_a_result(n)


WORKFLOWS = [fails_at_once, fails_after_a_result, fails_with_its_activity, fails_after_a_signal, fails_with_its_child]
EXPECTED = [21, 42, 42, 28, 42]


@pytest.mark.parametrize("restart", [False, True], ids=["same engine", "next engine"])
@pytest.mark.parametrize(
    ("work", "expected"), list(zip(WORKFLOWS, EXPECTED, strict=True)), ids=lambda x: getattr(x, "name", "")
)
def test_a_failed_execution_goes_on_once_its_reason_is_gone(tmp_path: Path, work, expected, restart) -> None:
    async def fail(engine: Engine) -> None:
        execution = await engine.start(work, 21, id="x")
        if work is fails_after_a_signal:
            await execution.signal(go, 7)
        with pytest.raises((ValueError, ConnectionError)):
            await execution.result(timeout_s=20)

    async def go_on(engine: Engine) -> int:
        await engine.execution("x").retry()
        return await engine.execution("x", work).result(timeout_s=20)

    async def main() -> int:
        global broken
        broken = True
        path = tmp_path / "retry.db"
        async with Engine(path, WORKFLOWS) as engine:
            await fail(engine)
            broken = False
            if not restart:
                return await go_on(engine)
        async with Engine(path, WORKFLOWS) as engine:
            return await go_on(engine)

    assert asyncio.run(main()) == expected


def test_a_retry_that_fails_again_can_be_retried_again(tmp_path: Path) -> None:
    async def main() -> int:
        global broken
        broken = True
        async with Engine(tmp_path / "retry.db", WORKFLOWS) as engine:
            execution = await engine.start(fails_after_a_result, 21, id="x")
            for attempt in range(3):
                with pytest.raises(ValueError, match="after a result"):
                    await execution.result(timeout_s=20)
                broken = attempt < 2
                await execution.retry()
            return await execution.result(timeout_s=20)

    assert asyncio.run(main()) == 42


tokens: list[str] = []


@activity
async def ask_outside() -> int:
    tokens.append(current_attempt().token)
    current_attempt().finish_later()


@workflow
async def asks() -> int:
    return await ask_outside()


async def test_an_answer_that_comes_with_the_retry_is_taken_and_nobody_is_asked_again(database, monkeypatch):
    """Found by the simulation: the attempt that the retry was about to start had its answer, and started all the
    same."""
    tokens.clear()
    commit = SqliteStore.commit

    def answered(self, batch):
        commit(self, batch)
        if batch.reopened:
            with contextlib.closing(SqliteStore(database)) as other:
                other.request([Parked(batch.reopened[0], "complete", None, None, seal(tokens[0]), "42")])

    async with Engine(database, [asks]) as engine:
        execution = await engine.start(asks, id="x", timeout_s=0.05)
        with pytest.raises(ExecutionTimedOut):
            await execution.result(timeout_s=20)
        monkeypatch.setattr(SqliteStore, "commit", answered)
        await execution.retry()
        assert await execution.result(timeout_s=20) == 42
    assert len(tokens) == 1
