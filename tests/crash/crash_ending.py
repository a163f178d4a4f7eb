"""The phase without harm: whoever waits for people gets what it waits for, until every execution has ended."""

from __future__ import annotations

import asyncio
import contextlib
import time

from crash_activities import raise_flag
from crash_ledger import Tail, Token
from crash_oracle import RETRIED
from crash_site import PATIENCE_S, Failed, Site
from crash_workflows import LAST, number

from perdure import Client, ExecutionInfo, Filter, Status
from perdure.errors import PerdureError

OPEN = tuple(status for status in Status if not status.closed)


def bring_to_an_end(site: Site) -> None:
    """Replace the processes by two workers that are left alone, and see to it that everything ends. Raises `Failed`
    when nothing happens any more."""
    site.kill(*site.processes)
    for _ in range(2):
        site.ready(site.spawn("worker", "idle"))
    asyncio.run(_Ending(site).bring())
    for worker in list(site.workers):
        site.end(worker)


class _Ending:
    def __init__(self, site: Site) -> None:
        self.site = site
        self.tokens = Tail(site.places.tokens, Token)
        self.told: set[tuple[str, int]] = set()

    async def bring(self) -> None:
        async with Client(self.site.places.database, codec=self.site.codec) as client:
            seen, last = None, time.monotonic()
            while True:
                self.site.check_alive()
                failed = [info for info in await self._all(client, Status.FAILED) if info.workflow in RETRIED]
                failed = [info for info in failed if info.parent_id is None]
                left = await self._all(client, *OPEN)
                if not left and not failed:
                    return
                for info in [*left, *failed]:
                    with contextlib.suppress(PerdureError):  # ended meanwhile
                        await self._help(client, info)
                await self._answer(client)
                await asyncio.sleep(0.02)
                if (now := [(info.id, info.run, info.events) for info in left]) != seen:
                    seen, last = now, time.monotonic()
                elif time.monotonic() - last > PATIENCE_S:
                    raise Failed(f"nothing happens any more to {left}\n{self.site.log_end()}")

    async def _all(self, client: Client, *statuses: Status) -> list[ExecutionInfo]:
        return list(await client.list(Filter(status=statuses, limit=100_000)))

    async def _help(self, client: Client, info: ExecutionInfo) -> None:
        execution = client.execution(info.id)
        if info.status is Status.FAILED:
            raise_flag(self.site.places, info.id)
            await execution.retry()
            return
        if info.status is Status.PAUSED:
            await execution.resume()
        if (info.id, info.run) in self.told:
            return
        if info.workflow in ("guarded", "tick"):
            self.told.add((info.id, info.run))
            await execution.cancel("the end")
        elif info.workflow in ("collect", "relay") and (info.id, 0) not in self.told:
            self.told.add((info.id, 0))
            await execution.signal(number, LAST)

    async def _answer(self, client: Client) -> None:
        for token in self.tokens.read():
            with contextlib.suppress(PerdureError):
                await client.complete(token.token, token.key)
