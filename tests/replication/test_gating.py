"""What must not happen before the bucket has what led to it: irreversible activities, and answers to callers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from servers import black_hole, tool

from perdure import Client, Engine, Retry, Signal, activity, workflow
from perdure.client import client as client_module
from perdure.engine.replicator import Arrived, ReplicationStatus, Site
from perdure.errors import NotReplicated
from perdure.replication.replica import Replica
from perdure.types import Durability

Until = Callable[..., Any]
ran: list[str] = []
refuse: list[str] = []
go = Signal("go", bool)


class Held:
    """A replica that says that something has arrived when the test says so; implements `Replicator` and `Stream`."""

    def __init__(self) -> None:
        self.newest = 0
        self.there = -1
        self.waiting: list[tuple[int, Arrived]] = []
        self.closed = False

    def begin(self, site: Site) -> Held:
        return self

    def check(self) -> None: ...

    def committed(self) -> int:
        self.newest += 1
        return self.newest

    def look(self) -> None: ...

    def when_replicated(self, commit: int, call: Arrived) -> None:
        if commit <= self.there:
            call(True)
        else:
            self.waiting.append((commit, call))

    async def reached(self) -> None:
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self.when_replicated(self.newest, lambda arrived: done.done() or done.set_result(arrived))
        if not await done:
            raise NotReplicated("not there")

    def arrive(self, commit: int | None = None) -> None:
        """Everything, or the commits up to one, is in the bucket."""
        self.there = self.newest if commit is None else commit
        now = [call for number, call in self.waiting if number <= self.there]
        self.waiting = [(number, call) for number, call in self.waiting if number > self.there]
        for call in now:
            call(True)

    def let_go(self) -> None:
        now, self.waiting = self.waiting, []
        for _, call in now:
            call(False)

    def status(self) -> ReplicationStatus:
        raise NotImplementedError

    async def close(self) -> None:
        self.closed = True


@activity
async def note(what: str) -> str:
    ran.append(what)
    return what


@activity(durability="replicated", retry=Retry(attempts=3, initial_s=0.001, max_s=0.001, jitter=False))
async def pay(what: str) -> str:
    ran.append(what)
    if what in refuse:
        refuse.remove(what)
        raise ConnectionError("try again")
    return what


@activity(durability="replicated", retry=Retry(attempts=1))
async def pay_once(what: str) -> str:
    ran.append(what)
    return what


@workflow
async def order(id: str) -> str:
    await note(f"note {id}")
    return await pay(f"pay {id}")


@workflow
async def both(id: str) -> list[str]:
    return await asyncio.gather(pay(f"pay {id}"), note(f"note {id}"))


@workflow(durability="replicated")
async def careful(id: str) -> str:
    return await note(f"note {id}")


@workflow
async def plain(id: str) -> str:
    return await note(f"note {id}")


@workflow
async def listening(id: str) -> bool:
    return await go.receive()


@workflow
async def once(id: str) -> str:
    return await pay_once(f"pay {id}")


ALL = [order, both, careful, plain, listening, once]


@pytest.fixture(autouse=True)
def fresh() -> None:
    ran.clear()
    refuse.clear()


async def turns(count: int = 50) -> None:
    """Let the loop do everything that it can do by now."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_an_activity_starts_once_what_led_to_it_is_there(database: Path, until: Until) -> None:
    held = Held()
    async with Engine(database, ALL, replicate=held) as engine:
        held.arrive()
        execution = await engine.start(order, "1")
        await until(lambda: held.waiting)
        await turns()
        assert ran == ["note 1"]
        needed = held.waiting[0][0]
        held.arrive(needed - 1)
        await turns()
        assert ran == ["note 1"]
        held.arrive(needed)
        assert await execution.result(10) == "pay 1"
    assert held.closed


async def test_others_do_not_wait_for_it(database: Path, until: Until) -> None:
    held = Held()
    async with Engine(database, ALL, replicate=held) as engine:
        held.arrive()
        execution = await engine.start(both, "1")
        await until(lambda: ran == ["note 1"])
        assert await (await engine.start(plain, "2")).result(10) == "note 2"
        assert ran == ["note 1", "note 2"]
        held.arrive()
        assert await execution.result(10) == ["pay 1", "note 1"]


async def test_a_workflow_and_an_engine_may_promise_it_for_all(database: Path, until: Until) -> None:
    held = Held()
    async with Engine(database, ALL, replicate=held) as engine:
        starting = asyncio.ensure_future(engine.start(careful, "1"))
        await until(lambda: len(held.waiting) == 2)  # the activity, and the caller
        await turns()
        assert (ran, starting.done()) == ([], False)
        held.arrive()
        execution = await starting
        await until(lambda: ran == ["note 1"])
        result = asyncio.ensure_future(execution.result())
        await until(lambda: held.waiting)
        assert not result.done()
        held.arrive()
        assert await result == "note 1"
    held = Held()
    async with Engine(database, ALL, replicate=held, durability="replicated") as engine:
        starting = asyncio.ensure_future(engine.start(plain, "2"))
        await until(lambda: len(held.waiting) == 2)
        assert (ran, starting.done()) == (["note 1"], False)
        held.arrive()
        await starting


async def test_one_start_may_ask_for_it(database: Path, until: Until) -> None:
    held = Held()
    async with Engine(database, ALL, replicate=held) as engine:
        starting = asyncio.ensure_future(engine.start(listening, "1", durability="replicated"))
        await until(lambda: held.waiting)
        assert not starting.done()
        held.arrive()
        execution = await starting
        assert execution.durability is Durability.REPLICATED
        signalling = asyncio.ensure_future(execution.signal(go, True))
        await until(lambda: held.waiting)
        assert not signalling.done()
        held.arrive()
        await signalling
        assert await (await engine.start(plain, "2", durability="local")).result(10) == "note 2"


async def test_each_further_attempt_waits_again(database: Path, until: Until) -> None:
    """A failure that is not in the bucket would make the next machine count, and wait, wrongly."""
    held = Held()
    refuse.append("pay 1")
    async with Engine(database, ALL, replicate=held) as engine:
        held.arrive()
        execution = await engine.start(order, "1")
        await until(lambda: held.waiting)
        held.arrive()
        await until(lambda: len(held.waiting) == 1)
        await turns()
        assert ran == ["note 1", "pay 1"]
        assert held.waiting[0][0] == held.newest
        held.arrive()
        assert await execution.result(10) == "pay 1"
        assert ran == ["note 1", "pay 1", "pay 1"]


async def test_what_an_earlier_runner_left_waits_for_the_first_upload(database: Path, until: Until) -> None:
    """It is in the file; whether it ever got into the bucket nobody knows."""
    async with Engine(database, ALL, replicate=Held()) as engine:
        execution = await engine.start(order, "1", id="1")
        await until(lambda: ran == ["note 1"])
        await until(lambda: engine._runner is not None and engine._stream.waiting)
    held = Held()
    async with Engine(database, ALL, replicate=held) as engine:
        await until(lambda: held.waiting)
        await turns()
        assert ran == ["note 1"]
        held.arrive()
        execution = engine.execution("1")
        assert await execution.result(10) == "pay 1"


async def test_an_engine_that_closes_lets_go_of_what_waits(database: Path, until: Until) -> None:
    held = Held()
    async with Engine(database, ALL, replicate=held) as engine:
        await engine.start(order, "1", id="1")
        waiting = asyncio.ensure_future(engine.start(plain, "2", id="2", durability="replicated"))
        await until(lambda: len(held.waiting) == 2)
    with pytest.raises(NotReplicated):
        await waiting
    assert "pay 1" not in ran
    async with Engine(database, ALL, replicate=(again := Held())) as engine:
        again.there = 1_000
        assert await engine.execution("1").result(10) == "pay 1"
        assert await engine.execution("2").result(10) == "note 2"
        assert ran.count("pay 1") == 1


# --- the real stream ------------------------------------------------------------------------------------------------


async def test_a_replica_that_cannot_be_reached_fails_what_waits_and_nothing_else(database: Path) -> None:
    tool("litestream")
    with black_hole() as endpoint:
        replica = Replica(f"s3://nowhere/x?endpoint={endpoint}&region=us-east-1", wait_s=0.3)
        replica = with_short_stop(replica)
        async with Engine(database, ALL, replicate=replica, grace_s=0.1) as engine:
            assert await (await engine.start(plain, "1")).result(10) == "note 1"
            with pytest.raises(NotReplicated, match=r"0\.3 s"):
                await engine.start(plain, "2", durability="replicated")
            execution = await engine.start(once, "3")
            with pytest.raises(NotReplicated, match="did not start"):
                await execution.result(10)
            assert "pay 3" not in ran
            assert await engine.execution((await engine.start(plain, "4")).id).result(10) == "note 4"


async def test_or_lets_it_go_on_where_the_user_wants_that(database: Path, caplog: pytest.LogCaptureFixture) -> None:
    tool("litestream")
    with black_hole() as endpoint:
        replica = Replica(f"s3://nowhere/x?endpoint={endpoint}&region=us-east-1", wait_s=0.3, late="go_on")
        async with Engine(database, ALL, replicate=with_short_stop(replica), grace_s=0.1) as engine:
            execution = await engine.start(once, "1", durability="replicated")
            assert await execution.result(10) == "pay 1"
    assert "went on after 0.3 s without the replica" in caplog.text


async def test_another_process_is_answered_once_it_is_there(
    database: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool("litestream")
    replica = Replica((tmp_path / "replica").as_uri())
    async with Engine(database, ALL, replicate=replica), Client(database, durability="replicated") as client:
        execution = await client.start(plain, "1", id="1")
        assert await execution.result(30) == "note 1"
        stream = replica.streams[0]
        assert stream.progress.covers > 0
        assert stream.lag().commits <= 1
    monkeypatch.setattr(client_module, "REPLICATED_S", 0.2)
    async with Client(database, durability="replicated") as client:  # nobody runs it: nobody uploads it
        with pytest.raises(NotReplicated):
            await client.start(plain, "2", id="2")


def with_short_stop(replica: Replica) -> Replica:
    """Give the same one, that does not wait long for its last upload."""
    import dataclasses

    return dataclasses.replace(replica, settings=dataclasses.replace(replica.settings, final_sync_s=0.2))


def test_promising_it_without_a_replica_is_refused(database: Path) -> None:
    with pytest.raises(ValueError, match="needs a replica"):
        Engine(database, ALL, durability="replicated")
    with pytest.raises(ValueError, match="full"):
        Engine(database, ALL, replicate=Held(), synchronous="normal")
