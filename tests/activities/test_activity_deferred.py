"""Activities that are completed from outside, by a token."""

from __future__ import annotations

import asyncio
import threading

import pytest

from perdure import Client, Engine, Retry, activity, current_attempt, workflow
from perdure.errors import ActivityTimeout, InvalidValue, StaleToken

PATIENCE_S = 20.0
APPROVAL = """
    import asyncio, sys
    from perdure import Engine, Retry, activity, current_attempt, workflow

    @activity(total_timeout_s=float(sys.argv[2]))
    async def approval() -> str:
        print(current_attempt().token, flush=True)
        current_attempt().finish_later()

    @workflow
    async def job() -> str:
        try:
            return await approval()
        except Exception as error:
            return f"{type(error).__name__}: {error}"

    async def main():
        async with Engine(sys.argv[1], workflows=[job]) as engine:
            execution = await engine.start(job, id="x")
            print(await execution.result(), flush=True)

    asyncio.run(main())
"""


class Board:
    """An activity that shows its tokens and is completed later."""

    def __init__(self, **options) -> None:
        self.tokens: asyncio.Queue[str] = asyncio.Queue()

        @activity(**options)
        async def approval() -> str:
            self.tokens.put_nowait(current_attempt().token)
            current_attempt().finish_later()

        @workflow
        async def job() -> str:
            try:
                return await approval()
            except (ValueError, ActivityTimeout) as error:
                return f"{type(error).__name__}: {error}"

        self.job = job


async def deferred(execution):
    return [event async for event in execution.history() if event.kind == "attempt_deferred"]


async def test_complete_gives_the_workflow_the_value(database, until):
    board = Board()
    async with Engine(database, workflows=[board.job]) as engine:
        execution = await engine.start(board.job)
        token = await board.tokens.get()
        await until(lambda: deferred(execution))
        await engine.complete(token, "yes")
        assert await execution.result() == "yes"


async def test_fail_gives_the_workflow_the_error_and_is_not_tried_again(database):
    board = Board(retry=Retry(attempts=5, initial_s=0))
    async with Engine(database, workflows=[board.job]) as engine:
        execution = await engine.start(board.job)
        await engine.fail(await board.tokens.get(), ValueError("refused by Ann"))
        assert await execution.result() == "ValueError: refused by Ann"
    assert board.tokens.empty()


async def test_completion_may_come_before_the_function_has_returned(database):
    release = threading.Event()
    tokens: list[str] = []
    asked = threading.Event()

    @activity
    def slow() -> str:
        tokens.append(current_attempt().token)
        asked.set()
        release.wait(PATIENCE_S)
        current_attempt().finish_later()

    @workflow
    async def job() -> str:
        return await slow.submit()

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        await asyncio.to_thread(asked.wait, PATIENCE_S)
        await engine.complete(tokens[0], "early")
        assert await execution.result() == "early"
        release.set()


async def test_a_token_works_once(database):
    board = Board()
    async with Engine(database, workflows=[board.job]) as engine:
        execution = await engine.start(board.job)
        token = await board.tokens.get()
        await engine.complete(token, "first")
        assert await execution.result() == "first"
        for act in (engine.complete(token, "second"), engine.fail(token, ValueError())):
            with pytest.raises(StaleToken):
                await act


async def test_tokens_that_nobody_gave_out_are_refused(database):
    board = Board()
    async with Engine(database, workflows=[board.job]) as engine:
        await engine.start(board.job)
        token = await board.tokens.get()
        num, seq, number, secret = token.split(".")
        for bad in ("", "x", "1.2.3", f"{num}.{seq}.{number}.{secret}x", f"{num}.{seq}.9.{secret}",
                    f"{num}.9.{number}.{secret}", f"99.{seq}.{number}.{secret}", "9" * 30 + ".1.1.x"):  # fmt: skip
            with pytest.raises(StaleToken):
                await engine.complete(bad, "no")
        await engine.complete(token, "yes")


async def test_a_result_of_the_wrong_type_is_refused_and_the_activity_stays_open(database):
    board = Board()
    async with Engine(database, workflows=[board.job]) as engine:
        execution = await engine.start(board.job)
        token = await board.tokens.get()
        with pytest.raises(InvalidValue):
            await engine.complete(token, 42)
        await engine.complete(token, "yes")
        assert await execution.result() == "yes"


async def test_the_total_time_ends_the_waiting(database):
    board = Board(total_timeout_s=0.1)
    async with Engine(database, workflows=[board.job]) as engine:
        execution = await engine.start(board.job)
        assert (await execution.result()).startswith("ActivityTimeout: approval was not completed within 0.1 s")
        with pytest.raises(StaleToken):
            await engine.complete(await board.tokens.get(), "late")
        assert engine.store.next_due() is None


async def test_a_retried_attempt_has_a_token_of_its_own(database):
    tokens: list[str] = []
    second = asyncio.Event()

    @activity(retry=Retry(initial_s=0))
    async def approval() -> str:
        tokens.append(current_attempt().token)
        if len(tokens) == 1:
            raise ConnectionError
        second.set()
        current_attempt().finish_later()

    @workflow
    async def job() -> str:
        return await approval()

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        await second.wait()
        with pytest.raises(StaleToken):
            await engine.complete(tokens[0], "old")
        await engine.complete(tokens[1], "new")
        assert await execution.result() == "new"


async def test_another_process_completes(database, spawn, until):
    process = spawn(APPROVAL, database, 60)
    token = process.stdout.readline().strip()
    async with Client(database) as client:
        await client.complete(token, "from afar")
        assert await client.execution("x").result() == "from afar"
        with pytest.raises(StaleToken):
            await client.complete(token, "again")
    assert process.stdout.readline() == "from afar\n"


async def test_another_process_is_told_of_a_stale_token(database, spawn, until):
    process = spawn(APPROVAL, database, 60)
    token = process.stdout.readline().strip()
    num, seq, number, secret = token.split(".")
    async with Client(database) as client:
        await until(lambda: deferred(client.execution("x")))
        for bad in (f"{num}.{seq}.{number}.{secret}x", f"{num}.{seq}.7.{secret}", f"{num}.1.{number}.{secret}"):
            with pytest.raises(StaleToken):
                await client.complete(bad, "no")
        await client.complete(token, "yes")


async def test_the_token_still_works_after_the_process_was_killed(database, spawn, until):
    process = spawn(APPROVAL, database, 60)
    token = process.stdout.readline().strip()
    async with Client(database) as client:
        await until(lambda: deferred(client.execution("x")))
        process.kill()
        process.wait()
        await client.complete(token, "while nobody ran")
        again = spawn(APPROVAL, database, 60)
        assert again.stdout.readline() == "while nobody ran\n"


async def test_the_total_time_goes_on_after_the_process_was_killed(database, spawn, until):
    process = spawn(APPROVAL, database, 1.5)
    process.stdout.readline()
    async with Client(database) as client:
        await until(lambda: deferred(client.execution("x")))
    process.kill()
    process.wait()
    assert spawn(APPROVAL, database, 1.5).stdout.readline().startswith("ActivityTimeout")


async def test_a_workflow_that_waits_for_the_outside_can_be_cancelled(database):
    board = Board()
    async with Engine(database, workflows=[board.job]) as engine:
        execution = await engine.start(board.job)
        token = await board.tokens.get()
        await execution.cancel()
        with pytest.raises(Exception, match="cancelled"):
            await execution.result()
        with pytest.raises(StaleToken):
            await engine.complete(token, "late")
