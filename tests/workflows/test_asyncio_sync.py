"""asyncio's queues, locks and events work in workflows: each is played in memory, evicted and restarted."""

from __future__ import annotations

import asyncio

import pytest

from perdure import activity, workflow


@activity
async def double(n: int) -> int:
    return 2 * n


async def test_a_queue_connects_producers_and_consumers(play):
    @workflow
    async def job() -> list[int]:
        queue: asyncio.Queue[int | None] = asyncio.Queue(maxsize=2)
        taken = []

        async def produce() -> None:
            for n in range(6):
                await queue.put(await double(n))
                await asyncio.sleep(1)
            await queue.put(None)

        async def consume() -> None:
            while (n := await queue.get()) is not None:
                await asyncio.sleep(3)
                taken.append(n)
                queue.task_done()
            queue.task_done()

        async with asyncio.TaskGroup() as group:
            group.create_task(produce())
            group.create_task(consume())
            await queue.join()
        return taken

    assert (await play(job)).result == [0, 2, 4, 6, 8, 10]


@pytest.mark.parametrize(
    ("make", "expected"),
    [(asyncio.Queue, [3, 1, 2]), (asyncio.LifoQueue, [2, 1, 3]), (asyncio.PriorityQueue, [1, 2, 3])],
)
async def test_each_kind_of_queue_keeps_its_order(play, make, expected):
    @workflow
    async def job() -> list[int]:
        queue = make()
        for n in 3, 1, 2:
            queue.put_nowait(n)
            await asyncio.sleep(1)
        return [await queue.get() for _ in range(3)]

    assert (await play(job)).result == expected


async def test_a_lock_lets_one_in_at_a_time_first_come_first_served(play):
    @workflow
    async def job() -> list[str]:
        lock, log = asyncio.Lock(), []

        async def enter(name: str) -> None:
            async with lock:
                log.append(f"{name} in")
                await asyncio.sleep(1)
                log.append(f"{name} out")

        await asyncio.gather(*(enter(name) for name in "abc"))
        return log

    assert (await play(job)).result == ["a in", "a out", "b in", "b out", "c in", "c out"]


async def test_an_event_wakes_all_who_wait(play):
    @workflow
    async def job() -> list[str]:
        event, log = asyncio.Event(), []

        async def wait(name: str) -> None:
            await event.wait()
            log.append(name)

        async with asyncio.TaskGroup() as group:
            for name in "abc":
                group.create_task(wait(name))
            await asyncio.sleep(10)
            log.append("set")
            event.set()
        return log

    assert (await play(job)).result == ["set", "a", "b", "c"]


@pytest.mark.parametrize("make", [asyncio.Semaphore, asyncio.BoundedSemaphore])
async def test_a_semaphore_limits_how_many_run(play, make):
    @workflow
    async def job() -> list[int]:
        semaphore, inside, seen = make(2), [0], []

        async def enter(n: int) -> int:
            async with semaphore:
                inside[0] += 1
                seen.append(inside[0])
                await asyncio.sleep(1 + n)
                inside[0] -= 1
                return await double(n)

        results = await asyncio.gather(*(enter(n) for n in range(5)))
        assert max(seen) == 2
        return results

    assert (await play(job)).result == [0, 2, 4, 6, 8]


async def test_a_condition_wakes_those_whose_predicate_holds(play):
    @workflow
    async def job() -> list[str]:
        condition, stock, log = asyncio.Condition(), [0], []

        async def take(name: str, amount: int) -> None:
            async with condition:
                await condition.wait_for(lambda: stock[0] >= amount)
                stock[0] -= amount
                log.append(name)

        async with asyncio.TaskGroup() as group:
            group.create_task(take("large", 3))
            group.create_task(take("small", 1))
            for _ in range(4):
                await asyncio.sleep(1)
                async with condition:
                    stock[0] += 1
                    condition.notify_all()
        return log

    assert (await play(job)).result == ["small", "large"]


async def test_a_barrier_releases_all_together(play):
    @workflow
    async def job() -> list[str]:
        barrier, log = asyncio.Barrier(3), []

        async def reach(name: str, seconds: int) -> None:
            await asyncio.sleep(seconds)
            log.append(f"{name} there")
            await barrier.wait()
            log.append(f"{name} on")

        await asyncio.gather(reach("a", 1), reach("b", 2), reach("c", 3))
        return log

    result = (await play(job)).result
    assert result[:3] == ["a there", "b there", "c there"]
    assert sorted(result[3:]) == ["a on", "b on", "c on"]


async def test_futures_and_callbacks_of_the_loop_work(play):
    @workflow
    async def job() -> list[str]:
        loop, log = asyncio.get_running_loop(), []
        future = loop.create_future()
        loop.call_soon(log.append, "soon")
        dropped = loop.call_later(5, log.append, "dropped")
        loop.call_later(10, future.set_result, "later")
        loop.call_at(loop.time() + 7, log.append, "at")
        await asyncio.sleep(1)
        dropped.cancel()
        log.append(await future)
        return log

    assert (await play(job)).result == ["soon", "at", "later"]
