"""A cancellation is never lost, whatever is faster than it."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from perdure import Saga, activity, workflow
from perdure.codec import encode_failure
from perdure.events import Event, Kind
from perdure.replay import Run


@activity
async def work() -> None: ...


@activity
async def undo(name: str) -> None: ...


@workflow
async def child() -> int:
    return 1


@workflow
async def after_a_child() -> int:
    result = await child()
    await work()
    return result


@workflow
async def orphaned_child() -> None:
    async def on_and_on() -> None:
        await child()
        await asyncio.Event().wait()

    task = asyncio.create_task(on_and_on())
    await asyncio.sleep(0)
    del task


@workflow
async def caught_failure() -> str:
    try:
        async with Saga() as saga:
            saga.add(undo, "first")
            saga.add(undo, "second")
            await work()
    except ValueError:
        await work()
    return "went on"


@workflow
async def undone_in_time() -> str:
    try:
        async with asyncio.timeout(10):
            async with Saga() as saga:
                saga.add(undo, "it")
                await work()
    except TimeoutError:
        return "late"
    return "went on"


class History:
    """Feeds a run and keeps what comes of it."""

    def __init__(self, workflow) -> None:
        self.workflow = workflow
        self.run = Run(workflow, "x")
        self.events: list[Event] = []
        self.take(Kind.STARTED, name=workflow.name, data="{}")

    def take(self, kind: Kind, ref: int | None = None, name: str | None = None, data: str | None = None) -> list[str]:
        """Apply an input; give the commands as `kind name`."""
        event = Event(self.run.seq + 1, kind, 1_000_000, ref, name, data)
        commands = self.run.apply(event)
        self.events += [event, *commands]
        return [f"{c.kind.name} {c.name or c.ref or ''}".strip() for c in commands]

    def last(self, kind: Kind) -> int:
        return next(event.seq for event in reversed(self.events) if event.kind is kind)

    def replays(self) -> None:
        Run(self.workflow, "x").replay(self.events)


NO = encode_failure(ValueError("no"))


@pytest.mark.parametrize(
    ("kind", "data"), [(Kind.CHILD_COMPLETED, "1"), (Kind.CHILD_FAILED, NO), (Kind.CHILD_CANCELLED, None)]
)
def test_a_parent_that_was_cancelled_stops_however_its_child_ended(kind, data):
    history = History(after_a_child)
    assert history.take(Kind.CANCEL_REQUESTED, data='"enough"') == ["CHILD_CANCEL_REQUESTED 2"]
    assert history.take(kind, history.last(Kind.CHILD_STARTED), "child", data) == ["CANCELLED"]
    history.replays()


def test_a_task_left_behind_ends_although_its_child_was_faster_than_the_cancel():
    history = History(orphaned_child)
    assert history.events[-1].kind is Kind.CHILD_CANCEL_REQUESTED
    assert history.take(Kind.CHILD_COMPLETED, history.last(Kind.CHILD_STARTED), "child", "1") == ["COMPLETED"]
    history.replays()


def test_a_cancel_during_the_undo_of_a_failure_is_raised_when_that_is_done():
    history = History(caught_failure)
    assert history.take(Kind.ACTIVITY_FAILED, 2, data=NO) == ["ACTIVITY_SCHEDULED undo"]
    assert history.take(Kind.CANCEL_REQUESTED, data='"enough"') == []
    assert history.take(Kind.ACTIVITY_COMPLETED, history.last(Kind.ACTIVITY_SCHEDULED), data="null") == [
        "ACTIVITY_SCHEDULED undo"
    ]
    assert history.take(Kind.ACTIVITY_COMPLETED, history.last(Kind.ACTIVITY_SCHEDULED), data="null") == ["CANCELLED"]
    undone = [msgspec.json.decode(e.data)["name"] for e in history.events if e.name == "undo"]
    assert undone == ["second", "first"]
    history.replays()


def test_a_timeout_during_the_undo_of_a_failure_ends_the_block_when_that_is_done():
    history = History(undone_in_time)
    assert history.take(Kind.ACTIVITY_FAILED, history.last(Kind.ACTIVITY_SCHEDULED), data=NO) == [
        "ACTIVITY_SCHEDULED undo"
    ]
    assert history.take(Kind.TIMER_FIRED, history.last(Kind.TIMER_STARTED)) == []
    assert history.take(Kind.ACTIVITY_COMPLETED, history.last(Kind.ACTIVITY_SCHEDULED), data="null") == ["COMPLETED"]
    assert msgspec.json.decode(history.events[-1].data) == "late"
    history.replays()
