"""What the workflow and the caller see of an activity's error."""

from __future__ import annotations

import asyncio

import pytest
from shop_errors import CardDeclined

from perdure import Engine, Retry, activity, workflow
from perdure.errors import PayloadTooLarge, RemoteError

ONCE = Retry(attempts=1)


@activity(retry=ONCE)
async def charge() -> None:
    try:
        {}["card"]
    except KeyError as error:
        raise CardDeclined("no money", 51) from error


@workflow
async def pays() -> list[object]:
    try:
        await charge()
    except CardDeclined as error:
        return [str(error), error.code, error.fields, list(error.args), repr(error.__cause__)]
    return []


@workflow
async def pays_badly() -> None:
    await charge()


async def test_the_workflow_catches_its_own_class_with_everything_it_carries(database):
    async with Engine(database, workflows=[pays]) as engine:
        assert await (await engine.start(pays)).result() == [
            "no money (51)",
            51,
            {"card": "1234", "tries": [1, 2]},
            ["no money", 51],
            "KeyError('card')",
        ]


async def test_the_caller_gets_type_cause_and_the_recorded_traceback(database):
    async with Engine(database, workflows=[pays_badly]) as engine:
        execution = await engine.start(pays_badly, id="pay")
        with pytest.raises(CardDeclined) as caught:
            await execution.result()
        assert isinstance(caught.value.__cause__, KeyError)
        notes = "\n".join(caught.value.__notes__)
        assert 'raise CardDeclined("no money", 51) from error' in notes
        assert "raised by execution pay (workflow pays_badly)" in notes
        assert (await execution.info()).error == "CardDeclined: no money (51)"


async def test_a_class_that_this_process_does_not_know_is_a_remote_error(database, spawn):
    script = """
        import asyncio, sys
        from perdure import Engine, Retry, activity, workflow

        class OnlyHere(Exception):
            pass

        @activity(retry=Retry(attempts=1))
        async def act() -> None:
            raise OnlyHere("you will not know me")

        @workflow
        async def job() -> None:
            await act()

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                execution = await engine.start(job, id="x")
                try:
                    await execution.result()
                except OnlyHere as error:
                    print("its own class")

        asyncio.run(main())
    """
    assert spawn(script, database).communicate()[0] == "its own class\n"
    async with Engine(database, workflows=[pays]) as engine:
        with pytest.raises(RemoteError, match="you will not know me") as caught:
            await engine.execution("x").result()
        assert caught.value.type_name == "__main__:OnlyHere"


async def test_errors_of_several_activities_stay_apart(database):
    @activity(retry=ONCE)
    async def fail(n: int) -> None:
        raise ValueError(n)

    @workflow
    async def job() -> list[str]:
        done = await asyncio.gather(*(fail(n) for n in range(3)), return_exceptions=True)
        return [repr(error) for error in done]

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result() == ["ValueError(0)", "ValueError(1)", "ValueError(2)"]


async def test_an_activity_that_raises_cancelled_error_of_its_own_has_failed(database):
    @activity(retry=ONCE)
    async def odd() -> None:
        raise asyncio.CancelledError("my own")

    @workflow
    async def job() -> str:
        try:
            await odd()
        except Exception as error:
            return type(error).__name__
        return "nothing"

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result(timeout_s=10) == "ExecutionCancelled"


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_system_exit_in_an_activity_is_its_failure(database, kind):
    @activity(retry=ONCE)
    async def exits() -> None:
        raise SystemExit(3)

    @activity(retry=ONCE)
    def exits_in_thread() -> None:
        raise SystemExit(3)

    @workflow
    async def job() -> str:
        try:
            await (exits if kind == "async" else exits_in_thread).submit()
        except BaseException as error:
            return type(error).__name__
        return "nothing"

    async with Engine(database, workflows=[job]) as engine:
        assert await (await engine.start(job)).result(timeout_s=10) == "RemoteError"


async def test_errors_far_over_the_payload_limit_are_kept_in_part_and_stop_nobody(database):
    huge = "x" * 200_000

    @activity(retry=Retry(attempts=2, initial_s=0))
    async def fail() -> None:
        raise ValueError(huge, [huge] * 20)

    @workflow
    async def job() -> None:
        await fail()

    @workflow
    async def fails_itself() -> None:
        raise ValueError(huge, {"all": [huge] * 20})

    @workflow
    async def fine() -> int:
        return 1

    async with Engine(database, workflows=[job, fails_itself, fine], max_payload_bytes=50_000) as engine:
        for one in (job, fails_itself):
            with pytest.raises(ValueError, match="xxx"):
                await (await engine.start(one)).result(timeout_s=10)
        assert await (await engine.start(fine)).result(timeout_s=10) == 1


@pytest.mark.parametrize("kind", ["async", "thread"])
async def test_a_result_over_the_limit_is_a_clear_error_and_not_tried_again(database, kind):
    calls = []

    @activity
    async def big() -> str:
        calls.append(1)
        return "x" * 5_000

    @activity
    def big_in_thread() -> str:
        calls.append(1)
        return "x" * 5_000

    @workflow
    async def job() -> str:
        return await (big if kind == "async" else big_in_thread).submit()

    async with Engine(database, workflows=[job], max_payload_bytes=4_096) as engine:
        with pytest.raises(PayloadTooLarge, match="4,096") as caught:
            await (await engine.start(job)).result(timeout_s=10)
        assert "max_payload_bytes" in caught.value.hint
    assert calls == [1]


async def test_arguments_signals_and_state_over_the_limit_are_refused_where_they_are_made(database):
    @activity
    async def take(text: str) -> int:
        return len(text)

    @workflow
    async def job(size: int) -> str:
        try:
            await take("x" * size)
        except PayloadTooLarge:
            return "refused"
        return "taken"

    @workflow
    async def echo(text: str) -> str:
        return text

    async with Engine(database, workflows=[job, echo], max_payload_bytes=4_096) as engine:
        assert await (await engine.start(job, 5_000)).result(timeout_s=10) == "refused"
        assert await (await engine.start(job, 3_000)).result(timeout_s=10) == "taken"
        with pytest.raises(PayloadTooLarge):
            await engine.start(echo, "x" * 5_000)
        execution = await engine.start(echo, "x")
        with pytest.raises(PayloadTooLarge):
            await execution.signal("any", "x" * 5_000)
