"""asyncio's tasks, task groups and cancellation work in workflows: each is played in memory, evicted and restarted."""

from __future__ import annotations

import asyncio

from perdure import Retry, activity, workflow


class Broken(Exception):
    pass


@activity
async def double(n: int) -> int:
    return 2 * n


@activity(retry=Retry(attempts=1))
async def fail(message: str) -> int:
    raise Broken(message)


@activity
def double_in_thread(n: int) -> int:
    return 2 * n


@workflow
async def nap(seconds: float, value: str) -> str:
    await asyncio.sleep(seconds)
    return value


async def later(seconds: float, value: str) -> str:
    await asyncio.sleep(seconds)
    return value


async def test_task_group_waits_for_all_its_tasks(play):
    @workflow
    async def job() -> list[object]:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(later(2, "a")), group.create_task(double(1)), group.create_task(nap(1, "b"))]
        return [task.result() for task in tasks]

    assert (await play(job, also=[nap])).result == ["a", 2, "b"]


async def test_a_failing_member_of_a_task_group_cancels_the_others(play):
    @workflow
    async def failing(seconds: float) -> None:
        await asyncio.sleep(seconds)
        raise Broken("child")

    @workflow
    async def job() -> list[str]:
        seen = []

        async def careful() -> None:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                seen.append(f"cancelled, cleaned up with {await double(21)}")
                raise

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(careful())
                group.create_task(nap(1_000, "never"))
                group.create_task(failing(5))
        except* Broken as errors:
            seen.extend(str(error) for error in errors.exceptions)
        return seen

    outcome = await play(job, also=[nap, failing])
    assert outcome.result == ["cancelled, cleaned up with 42", "child"]
    assert any(id.startswith("it/nap") and outcome.names(id)[-1] == "cancelled" for id in outcome.histories)


async def test_except_star_splits_errors_of_several_activities(play):
    @activity(retry=Retry(attempts=1))
    async def fail_otherwise() -> None:
        raise KeyError("other")

    @workflow
    async def job() -> list[str]:
        seen = []

        async def slow_to_stop() -> None:
            try:
                await asyncio.sleep(1_000)
            finally:
                raise LookupError("while stopping")

        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(slow_to_stop())
                group.create_task(fail("broken"))
        except* Broken as errors:
            seen.append(f"broken {len(errors.exceptions)}")
        except* LookupError as errors:
            seen.append(f"lookup {len(errors.exceptions)}")
        try:
            await asyncio.gather(fail_otherwise())
        except KeyError as error:
            seen.append(repr(error))
        return seen

    assert (await play(job)).result == ["broken 1", "lookup 1", "KeyError('other')"]


async def test_an_exception_group_is_a_failure_like_any_other(play):
    @workflow
    async def job() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail("one"))
            group.create_task(later(10, "never"))

    outcome = await play(job)
    assert outcome.error is not None
    assert outcome.error.startswith("ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)")
    assert outcome.names()[-1] == "failed"


async def test_shield_keeps_a_call_running_through_a_timeout(play):
    @workflow
    async def job() -> list[str]:
        call = nap.submit(100, "shielded")
        seen = []
        try:
            await asyncio.wait_for(asyncio.shield(call), 10)
        except TimeoutError:
            seen.append("timeout")
        seen.append(await call)
        return seen

    assert (await play(job, also=[nap])).result == ["timeout", "shielded"]


async def test_a_task_can_be_cancelled_and_says_why(play):
    @workflow
    async def job() -> list[object]:
        seen: list[object] = []

        async def worker() -> str:
            try:
                await nap(1_000, "never")
            except asyncio.CancelledError as error:
                seen.append(error.args)
                await asyncio.sleep(3)
                seen.append("cleaned up")
                raise
            return "never"

        task = asyncio.create_task(worker())
        await asyncio.sleep(1)
        task.cancel("enough")
        try:
            await task
        except asyncio.CancelledError:
            seen.append(task.cancelled())
        return seen

    outcome = await play(job, also=[nap])
    assert outcome.result[1:] == ["cleaned up", True]


async def test_a_task_that_swallows_its_cancellation_goes_on(play):
    @workflow
    async def job() -> list[object]:
        async def stubborn() -> str:
            try:
                await asyncio.sleep(1_000)
            except asyncio.CancelledError:
                asyncio.current_task().uncancel()
            await asyncio.sleep(5)
            return "went on"

        task = asyncio.create_task(stubborn())
        await asyncio.sleep(1)
        task.cancel()
        return [await task, task.cancelled(), task.cancelling()]

    assert (await play(job)).result == ["went on", False, 0]


async def test_tasks_that_nobody_awaits_are_cancelled_when_the_workflow_returns(play):
    @workflow
    async def job() -> str:
        async def background() -> None:
            try:
                await asyncio.sleep(1_000)
            finally:
                await double(1)

        asyncio.create_task(background())  # noqa: RUF006  # nobody awaits it: that is the point
        await asyncio.sleep(1)
        return "done"

    outcome = await play(job)
    assert outcome.result == "done"
    assert outcome.names()[-3:] == ["activity_scheduled", "activity_completed", "completed"]


async def test_to_thread_runs_a_def_activity(play):
    @workflow
    async def job() -> int:
        first = await asyncio.to_thread(double_in_thread, 4)
        second = await asyncio.to_thread(double_in_thread, n=first)
        return second + await double_in_thread.submit(1)

    outcome = await play(job)
    assert outcome.result == 18
    assert outcome.names().count("activity_completed") == 3


async def test_an_async_generator_that_is_left_early_is_closed_in_the_workflow_at_its_end(play):
    @workflow
    async def job() -> list[int]:
        async def numbers():
            try:
                for n in range(10):
                    yield await double(n)
            finally:
                await double(1_000)

        seen = []
        async for n in numbers():
            seen.append(n)
            if n == 4:
                break
        await asyncio.sleep(10)
        return seen

    outcome = await play(job)
    assert outcome.result == [0, 2, 4]
    last = [(event.kind.name, event.data) for event in outcome.histories["it"][-3:]]
    assert last == [("ACTIVITY_SCHEDULED", '{"n":1000}'), ("ACTIVITY_COMPLETED", "2000"), ("COMPLETED", "[0,2,4]")]


async def test_a_callback_that_fails_is_logged_and_passed_over_as_in_asyncio(play, caplog):
    @workflow
    async def job() -> int:
        task = asyncio.create_task(later(1, "done"))
        task.add_done_callback(lambda ended: 1 // 0)
        await task
        return await double(2)

    assert (await play(job)).result == 4
    assert "a callback failed" in caplog.text
