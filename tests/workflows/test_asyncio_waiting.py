"""asyncio's ways to wait work in workflows, durably: each is played in memory, evicted and restarted at every step."""

from __future__ import annotations

import asyncio

import pytest

from perdure import Retry, Signal, activity, now, workflow
from perdure.types import microseconds


class Broken(Exception):
    pass


@activity
async def double(n: int) -> int:
    return 2 * n


@activity(retry=Retry(attempts=1))
async def fail(message: str) -> int:
    raise Broken(message)


@workflow
async def nap(seconds: float, value: str) -> str:
    await asyncio.sleep(seconds)
    return value


go = Signal("go", int)


async def later(seconds: float, value: str) -> str:
    await asyncio.sleep(seconds)
    return value


async def fail_later(seconds: float, message: str) -> str:
    await asyncio.sleep(seconds)
    raise Broken(message)


async def test_sleep_is_a_durable_timer_that_moves_now_by_its_length(play):
    @workflow
    async def job() -> list[int]:
        began = microseconds(now())
        instants = []
        for seconds in 0, 0.5, 86_400:
            await asyncio.sleep(seconds)
            instants.append(microseconds(now()) - began)
        return instants

    outcome = await play(job)
    assert outcome.result == [0, 500_000, 86_400_500_000]
    assert outcome.names().count("timer_fired") == 2  # sleep(0) only lets others run


async def test_sleep_gives_its_result_argument(play):
    @workflow
    async def job() -> str:
        return await asyncio.sleep(5, "slept")

    assert (await play(job)).result == "slept"


async def test_gather_keeps_the_order_of_its_arguments_whatever_ends_first(play):
    @workflow
    async def job() -> list[object]:
        return list(await asyncio.gather(later(20, "slow"), double(4), nap(10, "child"), later(5, "fast")))

    assert (await play(job, also=[nap])).result == ["slow", 8, "child", "fast"]


async def test_gather_raises_the_first_error_and_leaves_the_others_running(play):
    @workflow
    async def job() -> list[str]:
        slow = asyncio.create_task(later(30, "slow"))
        seen = []
        try:
            await asyncio.gather(fail_later(1, "first"), slow, fail_later(2, "second"))
        except Broken as error:
            seen.append(str(error))
        seen.append(await slow)
        return seen

    assert (await play(job)).result == ["first", "slow"]


async def test_gather_can_return_errors_as_results(play):
    @workflow
    async def job() -> list[str]:
        results = await asyncio.gather(double(1), fail("broken"), later(1, "slow"), return_exceptions=True)
        return [f"{type(result).__name__}:{result}" for result in results]

    assert (await play(job)).result == ["int:2", "Broken:broken", "str:slow"]


@pytest.mark.parametrize(
    ("return_when", "expected"),
    [
        (asyncio.FIRST_COMPLETED, [["a"], ["b", "c", "d"]]),
        (asyncio.FIRST_EXCEPTION, [["a", "b", "c"], ["d"]]),
        (asyncio.ALL_COMPLETED, [["a", "b", "c", "d"], []]),
    ],
)
async def test_wait_returns_when_it_was_told_to(play, return_when, expected):
    @workflow
    async def job() -> list[list[str]]:
        work = {"a": later(1, "a"), "b": later(2, "b"), "c": fail_later(3, "c"), "d": later(4, "d")}
        tasks = [asyncio.create_task(coroutine, name=name) for name, coroutine in work.items()]
        done, pending = await asyncio.wait(tasks, return_when=return_when)
        sets = [sorted(task.get_name() for task in group) for group in (done, pending)]
        await asyncio.gather(*tasks, return_exceptions=True)
        return sets

    assert (await play(job)).result == expected


async def test_wait_with_a_timeout_cancels_nothing(play):
    @workflow
    async def job() -> list[str]:
        call, task = nap.submit(100, "child"), asyncio.create_task(later(200, "task"))
        done, pending = await asyncio.wait({call, task}, timeout=10)
        assert not done
        assert pending == {call, task}
        return [await call, await task]

    assert (await play(job, also=[nap])).result == ["child", "task"]


async def test_wait_takes_calls_as_they_are(play):
    @workflow
    async def job() -> list[int]:
        done, _ = await asyncio.wait([double.submit(n) for n in range(5)])
        return sorted(call.result() for call in done)

    assert (await play(job)).result == [0, 2, 4, 6, 8]


async def test_as_completed_gives_bare_coroutines_in_the_order_of_their_ends(play):
    @workflow
    async def job() -> list[str]:
        coroutines = [later(30, "c"), later(10, "a"), later(20, "b"), later(40, "d")]
        return [await soonest for soonest in asyncio.as_completed(coroutines)]

    assert (await play(job)).result == ["a", "b", "c", "d"]


async def test_as_completed_gives_calls_in_the_order_of_their_ends(play):
    @workflow
    async def job() -> list[str]:
        calls = [nap(30, "c"), nap(10, "a"), nap(20, "b")]
        return [await soonest for soonest in asyncio.as_completed(calls)]

    assert (await play(job, also=[nap])).result == ["a", "b", "c"]


async def test_as_completed_times_out(play):
    @workflow
    async def job() -> list[str]:
        seen = []
        try:
            for soonest in asyncio.as_completed([later(1, "a"), later(100, "b")], timeout=10):
                seen += [await soonest]
        except TimeoutError:
            seen.append("timeout")
        return seen

    assert (await play(job)).result == ["a", "timeout"]


async def test_wait_for_gives_the_result_in_time_and_cancels_what_is_late(play):
    @workflow
    async def job() -> list[str]:
        seen = [await asyncio.wait_for(later(1, "in time"), 10), str(await asyncio.wait_for(double(2), 10))]
        try:
            await asyncio.wait_for(nap(100, "late"), 10)
        except TimeoutError:
            seen.append("timeout")
        try:
            await asyncio.wait_for(go.receive(), 10)
        except TimeoutError:
            seen.append("no signal")
        return seen

    outcome = await play(job, also=[nap])
    assert outcome.result == ["in time", "4", "timeout", "no signal"]
    child = next(id for id in outcome.histories if id != "it")
    assert outcome.names(child)[-1] == "cancelled"


async def test_timeout_cancels_its_block_only(play):
    @workflow
    async def job() -> list[str]:
        seen = []
        async with asyncio.timeout(100) as outer:
            try:
                async with asyncio.timeout(10):
                    await asyncio.sleep(50)
            except TimeoutError:
                seen.append("inner")
            await asyncio.sleep(20)
            outer.reschedule(outer.when() + 100)
            await asyncio.sleep(150)
            seen.append("rescheduled")
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + 5):
                await go.receive()
        except TimeoutError:
            seen.append("at")
        async with asyncio.timeout(None):
            await asyncio.sleep(1)
        return seen

    assert (await play(job)).result == ["inner", "rescheduled", "at"]
