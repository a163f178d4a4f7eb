"""Starting by id: the same work once, and what happens when the id is taken."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest

from perdure import Client, Conflict, Signal, Status, activity, workflow
from perdure.errors import ExecutionExists, ExecutionNotFound, InvalidValue

go = Signal("go", int)


@dataclass
class Order:
    id: str
    items: list[str]


@activity
async def double(n: int) -> int:
    return 2 * n


@workflow
async def job(order: Order, discount: float = 0.0) -> str:
    return f"{order.id} {await go.receive()}"


@workflow
async def quick(n: int) -> int:
    return await double(n)


@workflow
async def breaks(n: int) -> int:
    raise ValueError("broken")


A = Order("a", ["x"])


@pytest.fixture(params=["engine", "client"])
def starter(request, world):
    """Give what to start executions with: the engine itself, or a client beside it."""

    class Starter:
        async def __aenter__(self):
            self.engine = await world.engine(job, quick, breaks).__aenter__()
            if request.param == "engine":
                return self.engine
            self.client = await Client(world.database, now=lambda: world.now_us).__aenter__()
            return self.client

        async def __aexit__(self, *error):
            if request.param == "client":
                await self.client.__aexit__(*error)
            await self.engine.__aexit__(*error)

    return Starter()


async def test_the_same_id_and_input_is_the_same_execution(starter):
    async with starter as client:
        first = await client.start(job, A, id="it")
        again = await client.start(job, Order("a", ["x"]), discount=0.0, id="it")
        assert first.id == again.id
        await again.signal(go, 1)
        assert await first.result() == await again.result() == "a 1"
        assert await (await client.start(job, A, id="it")).result() == "a 1"  # also after its end
        assert len(await client.list()) == 1


async def test_starts_of_one_id_at_once_make_one_execution(starter):
    async with starter as client:
        await asyncio.gather(*(client.start(job, A, id="it") for _ in range(20)))
        assert len(await client.list()) == 1


async def test_another_input_or_workflow_is_an_error_that_says_so(starter):
    async with starter as client:
        await client.start(job, A, id="it")
        for workflow_, *args in (job, Order("a", ["y"])), (job, A, 0.5), (quick, 1):
            with pytest.raises(ExecutionExists, match="exists already with another workflow or input"):
                await client.start(workflow_, *args, id="it")
        assert len(await client.list()) == 1


async def test_reject_refuses_also_the_same_input(starter):
    async with starter as client:
        await client.start(job, A, id="it", on_conflict="reject")
        with pytest.raises(ExecutionExists, match="execution it exists already"):
            await client.start(job, A, id="it", on_conflict=Conflict.REJECT)


async def test_replace_starts_a_new_run_once_the_old_one_has_ended(starter):
    async with starter as client:
        first = await client.start(quick, 1, id="it", on_conflict="replace")
        assert await first.result() == 2
        second = await client.start(quick, 2, id="it", on_conflict="replace")
        assert await second.result() == 4
        assert (await second.info()).run == 2
        assert (await client.describe("it", run=1)).status is Status.COMPLETED
        assert [event.value() async for event in second.history(run=1)][-1] == 2


async def test_replace_takes_the_place_of_a_failed_one_with_the_same_input(starter):
    async with starter as client:
        for run in 1, 2, 3:
            execution = await client.start(breaks, 1, id="it", on_conflict="replace")
            with pytest.raises(ValueError, match="broken"):
                await execution.result()
            assert (await execution.info()).run == run


async def test_replace_joins_an_open_one_with_the_same_input_and_refuses_another(starter):
    async with starter as client:
        await client.start(job, A, id="it")
        joined = await client.start(job, A, id="it", on_conflict="replace")
        assert (await joined.info()).run == 1
        with pytest.raises(ExecutionExists):
            await client.start(job, Order("b", []), id="it", on_conflict="replace")


async def test_without_an_id_each_start_is_an_execution_of_its_own(starter):
    async with starter as client:
        executions = [await client.start(quick, 1) for _ in range(3)]
        assert len({execution.id for execution in executions}) == 3
        assert [await execution.result() for execution in executions] == [2, 2, 2]


async def test_wrong_arguments_ids_and_policies_are_refused_at_once(starter):
    async with starter as client:
        for args in ("text",), (), (1, 2):
            with pytest.raises(InvalidValue, match="quick"):
                await client.start(quick, *args)
        for id in "", "x" * 501, "nul\x00":
            with pytest.raises(InvalidValue, match="1 to 500 characters"):
                await client.start(quick, 1, id=id)
        with pytest.raises(ValueError, match="whatever"):
            await client.start(quick, 1, on_conflict="whatever")
        with pytest.raises(ValueError, match="more than 0 seconds"):
            await client.start(quick, 1, timeout_s=0)
        with pytest.raises(TypeError, match="decorated with @workflow"):
            await client.start(double, 1)
        assert await client.list() == []


async def test_a_start_lasts_when_the_engine_is_gone(world):
    async with world.engine(job) as engine:
        await engine.start(job, A, id="it")
    async with world.engine(job) as engine:
        again = await engine.start(job, A, id="it")
        await again.signal(go, 4)
        assert await again.result() == "a 4"
        assert await engine.execution("it").result() == "a 4"
        with pytest.raises(ExecutionNotFound):
            await engine.execution("other").result()


async def test_the_id_of_the_workflows_options_is_used(world):
    async with world.engine(quick) as engine:
        execution = await engine.start(quick.options(id="chosen"), 5)
        assert (execution.id, await execution.result()) == ("chosen", 10)


async def test_a_failure_larger_than_the_limit_for_payloads_is_still_recorded(world):
    async with world.engine(breaks, max_payload_bytes=200) as engine:
        execution = await engine.start(breaks, 1)
        with pytest.raises(ValueError, match="broken"):
            await execution.result()
