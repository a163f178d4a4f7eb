"""One database on its way into the bucket: Litestream, what it has done, and what is told of it.

1. Nothing here delays or fails a commit. Trouble with Litestream or the bucket is seen in `lag()` and `problem`.
2. Each runner streams to a path of its own, `<prefix>/<epoch>/`: one that was replaced and writes on spoils nothing.
3. While Litestream is away we keep the log in bounds ourselves: it begins anew with a full snapshot anyway.
"""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from typing import TYPE_CHECKING

from perdure.engine.replicator import Arrived, Site
from perdure.errors import NotReplicated, PerdureError
from perdure.replication.control import Positions
from perdure.replication.litestream import Source
from perdure.replication.progress import Lag, Progress
from perdure.replication.supervisor import Supervisor
from perdure.store.sqlite.watermark import Watermark

if TYPE_CHECKING:
    from perdure.replication.replica import Replica

logger = logging.getLogger("perdure.replication")

LOOK_EVERY_S = 1.0


class LitestreamStream:
    """See the module; implements `engine.replicator.Stream`."""

    def __init__(self, replica: Replica, site: Site) -> None:
        self.replica = replica
        self.site = site
        self.target = replica.target.child(site.epoch)
        name = site.path.name
        self.supervisor = Supervisor(
            [Source(site.path, site.path.with_name(f".{name}-litestream"), self.target.litestream())],
            site.path.with_name(f"{name}-litestream-lock"),
            site.store.checkpoint,
            dataclasses.replace(replica.settings, interval_s=replica.interval_s),
            replica.target.credentials(),
        )
        self.progress = Progress(site.loop, self._sync, site.now, interval_s=max(replica.interval_s, 0.1))
        self.progress.on_reached = self._tell
        self.supervisor.on_ready = self.progress.restarted
        self.watermark = Watermark(site.path)
        self._held: dict[int, tuple[asyncio.TimerHandle, Arrived]] = {}
        self._keys = 0
        self._alarmed = False
        self._task = site.loop.create_task(self._run(), name="perdure-replication")

    # --- what the engine asks ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """Nobody else can be the runner: the lock of this machine says so."""

    def committed(self) -> int:
        return self.progress.commit()

    def look(self) -> None:
        self.progress.look()

    def when_replicated(self, commit: int, call: Arrived) -> None:
        self._keys += 1
        key = self._keys
        late = self.site.loop.call_later(self.replica.wait_s, self._late, key)
        self._held[key] = (late, call)
        self.progress.when_replicated(commit, lambda: self._answer(key, True))

    async def reached(self) -> None:
        done: asyncio.Future[bool] = self.site.loop.create_future()

        def call(arrived: bool) -> None:
            if not done.done():
                done.set_result(arrived)

        self.progress.look()
        self.when_replicated(self.progress.committed, call)
        if not await done:
            raise NotReplicated(
                f"{self.site.path}: committed here, and not in the replica after {self.replica.wait_s:g} s"
            )

    def let_go(self) -> None:
        for key in list(self._held):
            self._answer(key, False)

    async def close(self) -> None:
        """Upload what is left, as long as that takes not too long."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if not await self.supervisor.stop():
            logger.error("%s: the last commits did not get into the replica in time", self.site.path)
        self.progress.close()
        self.watermark.remove()

    # --- what people ask --------------------------------------------------------------------------------------------

    def lag(self) -> Lag:
        return self.progress.lag()

    @property
    def problem(self) -> str | None:
        """What keeps commits from getting there, in a line; None when nothing does."""
        return self.supervisor.problem or self.progress.problem

    # --- inside -----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Start Litestream, then look now and then how it does."""
        self.watermark.remove()
        started = False
        while True:
            try:
                if not started:
                    await self.supervisor.start()
                    started = True
                self._watch()
            except PerdureError as error:
                self.supervisor.problem = str(error)
                logger.error("replication cannot start, local work goes on: %s", error)
            await asyncio.sleep(LOOK_EVERY_S)

    def _watch(self) -> None:
        lag = self.progress.lag()
        late = lag.seconds > self.replica.lag_alarm_s
        if late != self._alarmed:
            self._alarmed = late
            logger.log(
                logging.ERROR if late else logging.WARNING,
                "%s: the replica is %d commits and %.1f s behind%s",
                self.site.path, lag.commits, lag.seconds, f": {self.problem}" if self.problem else "",
            )  # fmt: skip
            if self.replica.on_lag is not None:
                self.replica.on_lag(lag)
        away = self.supervisor.pid is None
        if away and self.site.store.log_bytes() > self.replica.log_limit_bytes:
            self.site.store.checkpoint()

    def _sync(self) -> Positions:
        return self.supervisor.control.sync(self.site.path)

    def _tell(self) -> None:
        try:
            self.watermark.write(self.site.epoch, self.progress.covers)
        except OSError as error:
            logger.warning("other processes cannot be told what is in the replica: %s", error)

    def _late(self, key: int) -> None:
        if self.replica.late == "go_on":
            logger.error("%s: went on after %g s without the replica", self.site.path, self.replica.wait_s)
        self._answer(key, self.replica.late == "go_on")

    def _answer(self, key: int, arrived: bool) -> None:
        held = self._held.pop(key, None)
        if held is not None:
            held[0].cancel()
            held[1](arrived)
