"""Sets of tasks and calls iterate the same way in every process, whatever its hash seed and memory addresses."""

from __future__ import annotations

import json

JOB = """
    import asyncio, json, sys
    from perdure import Engine, Filter, activity, workflow

    junk = [object() for _ in range(int(sys.argv[2]))]  # other addresses in every process

    @activity
    async def double(n: int) -> int:
        return 2 * n

    async def work(n: int) -> int:
        await asyncio.sleep(0)
        return await double(n)

    @workflow
    async def child(n: int) -> int:
        return await double(n)

    @workflow
    async def job() -> list[int]:
        order = []
        tasks = {asyncio.create_task(work(n)) for n in range(40)}
        for task in tasks:
            order.append(await task)
        done, _ = await asyncio.wait({double.submit(n) for n in range(40)} | {child.submit(n) for n in range(10)})
        for call in done:
            order.append(await double(call.result()))
        for soonest in asyncio.as_completed([work(n) for n in range(40)]):
            order.append(await soonest)
        done, _ = await asyncio.wait({asyncio.shield(double.submit(n)) for n in range(20)})
        for future in done:
            order.append(await double(future.result()))
        done, _ = await asyncio.wait({asyncio.gather(double(n), double(n + 1)) for n in range(20)})
        for future in done:
            order.append(await double(future.result()[0]))
        done, _ = await asyncio.wait({asyncio.ensure_future(work(n)) for n in range(40)}, timeout=3600)
        for task in done:
            order.append(await double(task.result()))
        async with asyncio.TaskGroup() as group:
            members = {group.create_task(work(n)) for n in range(20)}
        for other in asyncio.all_tasks() - {asyncio.current_task()} | members:
            order.append(await double(other.result()))
        return order

    async def main() -> None:
        async with Engine(sys.argv[1], workflows=[job]) as engine:
            execution = await engine.start(job, id="it")
            result = await execution.result()
            history = [[e.seq, e.kind, e.ref, e.name, e.data] async for e in execution.history()]
            plain = [event for event in history if event[1] not in ("timer_started", "timer_cancelled")]
            print(json.dumps([result, plain]))

    asyncio.run(main())
"""


def test_histories_are_equal_in_processes_with_different_hash_seeds(spawn, tmp_path, monkeypatch):
    outcomes = []
    for seed in "0", "1", "4242":
        monkeypatch.setenv("PYTHONHASHSEED", seed)
        process = spawn(JOB, tmp_path / f"{seed}.db", 1_000 * (1 + int(seed) % 7))
        output, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
        outcomes.append(json.loads(output))
    assert len(outcomes[0][0]) > 200
    assert outcomes[0] == outcomes[1] == outcomes[2]
