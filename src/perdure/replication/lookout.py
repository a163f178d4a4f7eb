"""Looks now and then how a stream is doing, and does what can be done.

1. The alarm is raised when the replica is too far behind, and taken back.
2. What an outage leaves on this disk is kept in bounds: `log_limit_bytes`, or as much as the file has.
3. After an outage Litestream is started anew if it does not see by itself that it is over; and when it may have read
   a commit that never became true.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from perdure.errors import PerdureError
from perdure.replication.refusal import BucketUnreachable
from perdure.replication.stall import Stall
from perdure.store.sqlite import remnant

if TYPE_CHECKING:
    from perdure.replication.shared import Seat
    from perdure.replication.stream import LitestreamStream
    from perdure.replication.supervisor import Supervisor

logger = logging.getLogger("perdure.replication")

RENEW_EVERY_S = 35.0
PROBE_S = 3.0
"""How long an answer of the bucket is waited for that only shows whether it is there."""


class Lookout:
    """See the module. Belongs to one stream, from its beginning to its end."""

    def __init__(self, stream: LitestreamStream) -> None:
        self.stream = stream
        self.stall = Stall(stream.site.loop.time())
        self._alarmed = False
        self._long_log = False
        self._renewed_at = float("-inf")
        self._lay: tuple[int, bytes] | None = None

    async def look(self) -> None:
        """Look once. Raises `BucketUnreachable` when nothing arrives because of that."""
        self._raise_alarm()
        self._bound_log()
        if self._begin_anew():
            return
        await self._nudge()

    def _begin_anew(self) -> bool:
        """Start Litestream anew where it may have read what never became true; say whether that is under way."""
        stream, now = self.stream, self.stream.site.loop.time()
        lies = stream.site.store.left_in_log()
        if lies is not None and lies == self._lay:  # no commit takes that long
            remnant.leave_note(stream.site.path)
        self._lay = lies
        if stream.supervisor is None or not stream.look_for_remnant():
            self._renewed_at = float("-inf")
            return False
        if now - self._renewed_at > RENEW_EVERY_S:  # one for many databases may not do it at once
            self._renewed_at = now
            logger.warning("%s: a process was killed in a commit: litestream is started anew", stream.site.path)
            stream.supervisor.nudge()
        return True

    def _raise_alarm(self) -> None:
        stream, lag = self.stream, self.stream.lag()
        late = lag.seconds > stream.replica.lag_alarm_s
        if late == self._alarmed:
            return
        self._alarmed = late
        level = logging.ERROR if late else logging.WARNING
        why = f": {stream.problem}" if stream.problem else ""
        logger.log(
            level, "%s: the replica is %d commits, %.1f s behind%s", stream.site.path, lag.commits, lag.seconds, why
        )
        if stream.replica.on_lag is not None:
            stream.replica.on_lag(lag)

    def _bound_log(self) -> None:
        """While Litestream is away empty the log ourselves; while it is there that is its task, and we watch it."""
        stream = self.stream
        size = stream.site.store.log_bytes()
        long = size > stream.replica.log_limit_bytes
        if long and not self._long_log:
            logger.warning("%s: its log has grown to %d bytes", stream.site.path, size)
        self._long_log = long
        if long and stream.supervisor is not None and stream.supervisor.pid is None:
            stream.site.store.checkpoint()

    async def _nudge(self) -> None:
        """Start a Litestream anew that does not see that an outage is over; end one that only fills the disk in it."""
        stream, progress, now = self.stream, self.stream.progress, self.stream.site.loop.time
        waits, supervisor = progress.replicated < 0 or stream.lag().commits, stream.supervisor
        stuck = self.stall.look(progress.replicated, int(waits), now())
        if supervisor is None or not (stuck or supervisor.resting):
            return
        well = there = await self._answers()
        if well:
            well = stream.beacon.problem is None  # it may be there, and refuse to be written to
        if self.stall.answered(well, now()) or (well and supervisor.resting):
            logger.warning("%s: the bucket answers and nothing arrives: litestream is started anew", stream.site.path)
            supervisor.nudge()
        elif not well and not supervisor.resting:
            self._rest_if_full(supervisor)
        if not there:
            raise BucketUnreachable(f"{stream.bucket.name} does not answer")

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(PROBE_S):
                await self.stream.epochs.current()
        except (PerdureError, TimeoutError):
            return False
        return True

    def _rest_if_full(self, supervisor: Supervisor | Seat) -> None:
        """End Litestream when the log, or what it cannot upload, is larger than all of the file: begun anew it uploads
        that. In an outage it empties the log no more, or makes ever more files, and local work needs the disk."""
        stream = self.stream
        size = max(stream.site.store.log_bytes(), stream.waiting_bytes())
        if size > max(stream.replica.log_limit_bytes, stream.site.path.stat().st_size):
            logger.warning("%s: %d bytes wait: litestream rests until the bucket answers", stream.site.path, size)
            supervisor.rest()
