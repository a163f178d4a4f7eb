"""When a failed activity is tried again, and when not."""

from __future__ import annotations

import asyncio
import random

import pytest

from perdure import Engine, Retry, activity, current_attempt, workflow
from perdure.errors import AttemptInterrupted, InvalidValue

FAST = Retry(attempts=3, initial_s=0.001, max_s=0.002)


class CardDeclined(Exception):
    pass


class CardStolen(CardDeclined):
    pass


async def test_an_activity_is_tried_again_until_it_succeeds(database):
    numbers = []

    @activity(retry=FAST)
    async def flaky() -> str:
        numbers.append(current_attempt().number)
        if len(numbers) < 3:
            raise ConnectionError("no route")
        return "done"

    @workflow
    async def job() -> str:
        return await flaky()

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == "done"
    assert numbers == [1, 2, 3]


async def test_the_last_error_reaches_the_workflow_when_no_attempt_is_left(database, failed_attempts, kinds):
    @activity(retry=FAST)
    def broken() -> None:
        raise ConnectionError(f"attempt {current_attempt().number}")

    @workflow
    async def job() -> str:
        try:
            await broken.submit()
        except ConnectionError as error:
            return str(error)
        return "no error"

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        assert await execution.result() == "attempt 3"
        notes = await failed_attempts(execution)
        assert [(note["attempt"], note["error"]["message"]) for note in notes] == [(1, "attempt 1"), (2, "attempt 2")]
        assert (await kinds(execution)).count("activity_failed") == 1


async def test_without_jitter_waits_grow_by_the_multiplier_up_to_the_maximum(database, failed_attempts):
    @activity(retry=Retry(attempts=6, initial_s=0.001, multiplier=3, max_s=0.02, jitter=False))
    async def broken() -> None:
        raise ConnectionError

    @workflow
    async def job() -> None:
        await broken()

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        with pytest.raises(ConnectionError):
            await execution.result()
        waits = [note["wait_s"] for note in await failed_attempts(execution)]
        assert waits == pytest.approx([0.001, 0.003, 0.009, 0.02, 0.02], abs=1e-6)


async def test_jitter_draws_each_wait_between_zero_and_its_ceiling(database, failed_attempts):
    @activity(retry=Retry(attempts=3, initial_s=0.01, multiplier=2, max_s=1))
    async def broken() -> None:
        raise ConnectionError

    @workflow
    async def job() -> None:
        await broken()

    async with Engine(database, workflows=[job]) as engine:
        executions = [await engine.start(job) for _ in range(40)]
        await asyncio.gather(*(execution.result() for execution in executions), return_exceptions=True)
        waits = [[note["wait_s"] for note in await failed_attempts(execution)] for execution in executions]
    for number, ceiling in enumerate((0.01, 0.02)):
        drawn = [wait[number] for wait in waits]
        assert all(0 <= wait <= ceiling for wait in drawn)
        assert len(set(drawn)) > 20, "every wait is the same: there is no jitter"
        assert max(drawn) - min(drawn) > ceiling / 3


def test_any_draw_stays_within_the_bounds():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    for _ in range(500):
        retry = Retry(initial_s=draw.random() * 10, max_s=draw.random() * 100, multiplier=1 + draw.random() * 5)
        failed = draw.randrange(1, 10_000)
        ceiling = retry.wait_s(failed, 0.999_999_999)
        assert 0 <= retry.wait_s(failed, draw.random()) <= ceiling <= retry.max_s


@pytest.mark.parametrize("error", [CardDeclined, CardStolen])
async def test_a_type_in_never_is_final_at_once_subclasses_too(database, failed_attempts, error):
    calls = []

    @activity(retry=Retry(attempts=5, initial_s=0.001, never=(CardDeclined,)))
    async def charge() -> None:
        calls.append(1)
        raise error("no")

    @workflow
    async def job() -> None:
        await charge()

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        with pytest.raises(error, match="no"):
            await execution.result()
        assert await failed_attempts(execution) == []
    assert calls == [1]


async def test_no_new_attempt_starts_after_total_s(database):
    calls = []

    @activity(retry=Retry(attempts=None, initial_s=0.02, multiplier=1, jitter=False, total_s=0.1))
    async def broken() -> None:
        calls.append(1)
        raise ConnectionError("still down")

    @workflow
    async def job() -> None:
        await broken()

    async with Engine(database, workflows=[job]) as engine:
        with pytest.raises(ConnectionError, match="still down"):
            await (await engine.start(job)).result()
    assert 2 <= len(calls) <= 6


async def test_no_limit_on_attempts_goes_on(database):
    calls = []

    @activity(retry=Retry(attempts=None, initial_s=0, jitter=False))
    async def flaky() -> int:
        calls.append(1)
        if len(calls) < 30:
            raise ConnectionError
        return len(calls)

    @workflow
    async def job() -> int:
        return await flaky()

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == 30


async def test_a_result_of_the_wrong_type_is_a_clear_error_and_not_tried_again(database):
    calls = []

    @activity(retry=FAST)
    async def count() -> int:
        calls.append(1)
        return "three"  # type: ignore[return-value]

    @workflow
    async def job() -> int:
        return await count()

    async with Engine(database, workflows=[job]) as engine:
        with pytest.raises(InvalidValue, match=r"the result of activity count.*int"):
            await (await engine.start(job)).result()
    assert calls == [1]


async def test_options_change_one_call_and_leave_the_activity_as_it_was(database, failed_attempts):
    calls = []

    @activity(retry=FAST)
    async def broken(name: str) -> None:
        calls.append(name)
        raise ConnectionError

    @workflow
    async def job() -> None:
        for call in (broken.options(retry=Retry(attempts=1)).submit("once"), broken.submit("thrice")):
            with pytest.raises(ConnectionError):
                await call

    async with Engine(database, workflows=[job]) as engine:
        await (await engine.start(job)).result()
    assert sorted(calls) == ["once", "thrice", "thrice", "thrice"]


def test_options_refuse_what_is_no_option():
    @activity
    async def act() -> None: ...

    with pytest.raises(TypeError, match="no such activity option: retries"):
        act.options(retries=3)
    with pytest.raises(ValueError, match="timeout_s must be more than 0"):
        act.options(timeout_s=0)
    with pytest.raises(ValueError, match="attempts must be at least 1"):
        Retry(attempts=0)
    with pytest.raises(TypeError, match="never must be a tuple"):
        Retry(never=ValueError)  # type: ignore[arg-type]


async def test_the_idempotency_key_is_the_same_in_every_attempt_and_in_no_other_call(database):
    keys: dict[str, set[str]] = {}

    @activity(retry=FAST)
    async def charge(name: str) -> None:
        keys.setdefault(name, set()).add(current_attempt().idempotency_key)
        if current_attempt().number < 3:
            raise ConnectionError

    @workflow
    async def job(name: str) -> None:
        await charge(f"{name} first")
        await charge(f"{name} second")

    async with Engine(database, workflows=[job]) as engine:
        for name in ("one", "two"):
            await (await engine.start(job, name)).result()
    assert [len(found) for found in keys.values()] == [1, 1, 1, 1]
    assert len(set.union(*keys.values())) == 4


async def test_an_activity_that_dies_with_its_process_too_often_fails(database, spawn):
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, workflow

        @activity(retry=Retry(interruptions=2, initial_s=0))
        def kill() -> None:
            os._exit(9)

        @workflow
        async def job() -> None:
            await kill.submit()

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                execution = await engine.start(job, id="x")
                await execution.result()

        asyncio.run(main())
    """
    for _ in range(3):
        assert spawn(script, database).wait() == 9
    last = spawn(script, database)
    _, errors = last.communicate()
    assert last.returncode == 1
    assert AttemptInterrupted.__name__ in errors
    assert "died 3 times" in errors
