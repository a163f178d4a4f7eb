"""What the history says is done, read as any client can."""

from __future__ import annotations

from collections.abc import AsyncIterator

import msgspec

from perdure.client import Client
from perdure.demo.index import index_file
from perdure.store import Filter
from perdure.types import ExecutionInfo

PAGE = 100


class Done(msgspec.Struct, frozen=True):
    """The files with a result, and how many results there are: as many, if no step was recorded twice."""

    paths: set[str]
    events: int


async def completed_paths(client: Client, execution_id: str) -> Done:
    """Collect the files that activities of the children of an execution have completed."""
    paths: list[str] = []
    async for child in _children(client, execution_id):
        scheduled: dict[int, str] = {}
        async for event in client.execution(child.id).history():
            if event.kind == "activity_scheduled" and event.name == index_file.name:
                scheduled[event.seq] = event.value()["path"]
            elif event.kind == "activity_completed" and event.ref in scheduled:
                paths.append(scheduled[event.ref])
    return Done(set(paths), len(paths))


async def _children(client: Client, execution_id: str) -> AsyncIterator[ExecutionInfo]:
    after: tuple[str, int] | None = None
    while page := await client.list(Filter(parent_id=execution_id, after=after, limit=PAGE)):
        for child in page:
            yield child
        after = (page[-1].id, page[-1].run)
