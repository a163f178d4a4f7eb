"""Whether a Litestream that runs has to be started anew for anything to arrive.

After an outage its pauses double, up to five minutes; and an answer that was lost on its way it awaits for a day. So it
is started anew once the bucket, which did not answer us, does so again. Without a sign of an outage it may be busy with
a large snapshot: then only after a long time, each time twice as long, so that the snapshot gets there one day.
"""

from __future__ import annotations

STUCK_S = 10.0
"""Nothing has arrived for so long: the bucket is asked whether it is there."""
LONG_S = 900.0


class Stall:
    """See the module. `now` is in seconds, of a clock that nobody sets."""

    def __init__(self, now: float) -> None:
        self.since = now
        """Since when nothing has arrived that was waited for."""
        self.outage = False
        self.limit_s = LONG_S
        self._arrived = -1

    def look(self, arrived: int, behind: int, now: float) -> bool:
        """Take note of how much has arrived, and how much has not; give whether to ask the bucket."""
        if arrived != self._arrived or not behind:
            self._arrived, self.since, self.outage, self.limit_s = arrived, now, False, LONG_S
        return now - self.since >= STUCK_S

    def answered(self, well: bool, now: float) -> bool:
        """Take note of whether the bucket answered us; give whether to start Litestream anew."""
        if not well:
            self.outage = True
            return False
        due = self.outage or now - self.since >= self.limit_s
        if now - self.since >= self.limit_s:
            self.limit_s *= 2
            self.since = now
        self.outage = False
        return due
