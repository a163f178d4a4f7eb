"""What comes by itself: timers that fall due, requests that other processes left in the file, heartbeats."""

from __future__ import annotations

import asyncio
import logging
from operator import attrgetter
from typing import TYPE_CHECKING, assert_never

from perdure.engine.attempt import Attempt
from perdure.engine.inputs import Begin, Deliver, Input, Request
from perdure.engine.live import Live
from perdure.errors import StoreError
from perdure.events import Kind
from perdure.store import ExecutionRow, InboxRow, Parked, Purpose, TimerRow

if TYPE_CHECKING:
    from perdure.engine.runner import Runner

logger = logging.getLogger("perdure.runner")

PENDING_ROWS = 2_000
INBOX_ROWS = 2_000
TIMER_ROWS = 1_000
_PURPOSES = frozenset(Purpose)


class Arrivals:
    """Part of the runner: `runner.work` is the batch in the making.

    Timers are not polled: `next_due` is the earliest, and an alarm on the loop wakes the runner for it.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self.next_due: int | None = runner.store.next_due()
        self.look = True
        """Whether another process may have left something in the file."""
        self.queued: set[int] = set()
        """Inbox entries that stand in the runner's inputs."""
        self.begins: set[int] = set()
        """Pending executions that stand in the runner's inputs."""
        self.beats: dict[Attempt, None] = {}
        """Attempts whose last heartbeat is not on the disk yet."""
        self.subject: ExecutionRow | None = None
        """Whose timer is being taken into the batch."""
        self.spoiled: set[int] = set()
        """Inbox entries on which the runner failed; they stay in the file."""
        self.seen = 0
        """The newest inbox entry that was read."""
        self._version = -1
        self._alarm: asyncio.TimerHandle | None = None

    def gather(self, timer_rows: int) -> None:
        """Collect what has arrived into the batch, with at most `timer_rows` timers."""
        self.subject = None
        if self.next_due is not None and self.next_due <= self.runner.now:
            self._take_timers(timer_rows)
        if self.look:
            self.look, self.runner.work.looked = False, True
            self._take_inbox()
        if self.beats:
            self._take_beats()

    def waiting(self) -> bool:
        """Say whether there is something to gather now."""
        return self.look or (self.next_due is not None and self.next_due <= self.runner.clock())

    def changed(self) -> bool:
        """Say whether there is something that nobody rang for: a lost ring, a heartbeat, a jump of the clock."""
        version = self.runner.store.changed()
        if version != self._version:
            self._version = version
            self.look = True
        return bool(self.beats) or self.waiting()

    def again(self) -> None:
        """Look at everything anew after a failed commit."""
        self.seen = 0
        self.look = True
        self.next_due = self.runner.now

    # --- timers -----------------------------------------------------------------------------------------------------

    def _take_timers(self, rows: int) -> None:
        runner = self.runner
        runner.work.timers_fired = True
        for timer in runner.store.due_timers(runner.now, rows):
            row = self.subject = runner.memory.by_num(timer.execution)
            runner.work.timers.append(row)
            if row is None or row.status.closed or timer.purpose not in _PURPOSES:
                runner.work.batch.timers_done.append((timer.due_at, timer.execution, timer.seq, timer.purpose))
            elif not (runner.foreign and runner.is_plain(row.workflow)):
                self._timer_due(timer, row)
        self.subject = None

    def _timer_due(self, timer: TimerRow, row: ExecutionRow) -> None:
        runner = self.runner
        live = runner.memory.live(row)
        if live is None and not runner.memory.is_stray(row):
            return
        runner.work.batch.timers_done.append((timer.due_at, timer.execution, timer.seq, timer.purpose))
        if live is None:
            if timer.purpose == Purpose.SLEEP:  # for when it can go on
                runner.put_aside(row, Deliver(row, Kind.TIMER_FIRED, timer.seq))
            return
        match Purpose(timer.purpose):
            case Purpose.SLEEP:
                if live.timers.pop(timer.seq, None) is not None or live.run is None:
                    runner.work.told.append(Deliver(live.row, Kind.TIMER_FIRED, timer.seq))
            case Purpose.DEADLINE:
                runner.work.told.append(Deliver(live.row, Kind.TIMED_OUT))
            case Purpose.RETRY:
                runner.outcomes.retry_due(live, timer.seq)
            case Purpose.ACTIVITY_TIMEOUT:
                runner.outcomes.total_timeout(live, timer.seq)
            case other:
                assert_never(other)

    def committed(self) -> None:
        """Bring `next_due` up to date after a commit. What was written has to be let out, so this raises nothing."""
        work = self.runner.work
        if work.timers_fired:
            try:
                self.next_due = self.runner.store.next_due()
            except StoreError as error:
                logger.warning("the timers could not be read, trying again: %s", error)
                self.next_due = self.runner.now
        for _, due_at, _, _ in work.batch.timers:
            if self.next_due is None or due_at < self.next_due:
                self.next_due = due_at

    def set_alarm(self, wait_s: float | None) -> None:
        """Have the runner woken after `wait_s`, or when the next timer is due. On the loop's thread."""
        if wait_s is None and self.next_due is not None:
            wait_s = max(self.next_due - self.runner.clock(), 0) / 1e6
        loop, alarm = self.runner.loop, self._alarm
        if alarm is not None:
            if wait_s is not None and not alarm.cancelled() and abs(alarm.when() - loop.time() - wait_s) < 0.000_5:
                return
            alarm.cancel()
            self._alarm = None
        if wait_s is not None:
            self._alarm = loop.call_later(wait_s, self._ring)

    def _ring(self) -> None:
        self._alarm = None
        self.runner.wake()

    def cancel_alarm(self) -> None:
        if self._alarm is not None:
            self._alarm.cancel()

    # --- other processes ---------------------------------------------------------------------------------------------

    def _take_inbox(self) -> None:
        """Queue what other processes left, ahead of what this one has asked since: a standby that becomes the runner
        asked through the file before."""
        runner = self.runner
        pending = runner.store.pending(PENDING_ROWS)
        fresh = [row for row in pending if row.num not in self.begins and row.id not in runner.memory.lives]
        self.begins.update(row.num for row in fresh)
        arrived: list[Begin | Deliver | Request] = [Begin(row) for row in fresh]
        entries = runner.store.inbox(self.seen, INBOX_ROWS)
        self.look = len(entries) == INBOX_ROWS or len(pending) == PENDING_ROWS
        for entry in entries:
            self.seen = entry.n
            found = runner.memory.by_num(entry.execution)
            if found is None:
                runner.work.batch.inbox_done.append(entry.n)
            elif entry.problem is not None:
                logger.error("%s of %s waits in the inbox: %s", entry.what, found.id, entry.problem)
            elif entry.n not in self.queued and entry.n not in self.spoiled:
                arrived.append(_from_inbox(found, entry))
        self._queue(arrived)

    def _queue(self, arrived: list[Begin | Deliver | Request]) -> None:
        """Put what was read into the runner's inputs: first, but behind what was read before and still stands there."""
        inputs = self.runner.inputs
        older = [i for i, item in enumerate(inputs) if _inbox_entry(item) is not None] if self.queued else []
        place = older[-1] + 1 if older else 0
        inputs.rotate(-place)
        inputs.extendleft(reversed(arrived))
        inputs.rotate(place)
        self.queued.update(n for item in arrived if (n := _inbox_entry(item)) is not None)

    def handled(self, item: Deliver | Request) -> None:
        """Forget an inbox entry that was handled. Not before: taking up its execution must not find it parked."""
        if item.inbox is not None:
            self.queued.discard(item.inbox)

    def move(self, item: Deliver, n: int, row: ExecutionRow) -> None:
        """Give an entry of the inbox to another run, which is held; it keeps its place."""
        what = "signal" if item.kind is Kind.SIGNAL_RECEIVED else "event"
        entry = InboxRow(n, row.num, what, item.kind.value, item.ref, item.name, item.data)
        self.runner.work.batch.inbox_moved.append((n, row))
        self.runner.work.moved.append((row, entry))

    def unpark(self, live: Live) -> None:
        """Deliver what waited in the inbox while the execution was paused or blocked, in order. If it ends meanwhile,
        the rest is for the run that it continued as, or for nobody: none of it stays in the inbox."""
        runner, batch = self.runner, self.runner.work.batch
        just_now = [entry for entry in batch.parked if entry.row is live.row]
        batch.parked = [entry for entry in batch.parked if entry.row is not live.row]
        done, overtakes = set(batch.inbox_done), False
        moved = [entry for row, entry in runner.work.moved if row is live.row]
        for entry in sorted([*runner.store.parked(live.row.num), *moved], key=attrgetter("n")):
            if entry.n in done or entry.problem is not None:
                continue
            if entry.what == "event":  # such as the result of an attempt: without it the attempt would seem lost
                self._unqueue(entry.n)
            elif entry.n in self.queued:  # its turn comes
                overtakes = True
                continue
            elif entry.n > self.seen and (overtakes or entry.kind is None):
                overtakes = self.look = True  # another process asked since the inbox was read: its turn comes too
                continue
            runner.handle(_from_inbox(live.row, entry))
        for parked in just_now:
            runner.handle(_from_inbox(live.row, parked))

    def _unqueue(self, n: int) -> None:
        """Take an inbox entry out of the runner's inputs."""
        if n in self.queued:
            self.queued.discard(n)
            kept = [item for item in self.runner.inputs if _inbox_entry(item) != n]
            self.runner.inputs.clear()
            self.runner.inputs.extend(kept)

    # --- heartbeats -------------------------------------------------------------------------------------------------

    def _take_beats(self) -> None:
        beats, self.beats = self.beats, {}
        for attempt in beats:
            if not attempt.ended and attempt.live.row.num:
                key = (attempt.live.row.num, attempt.seq)
                self.runner.work.batch.heartbeats[key] = (attempt.number, self.runner.now, attempt.details)


def _inbox_entry(item: Input) -> int | None:
    """Give the inbox entry that an input came in."""
    return item.inbox if isinstance(item, Deliver | Request) else None


def _from_inbox(row: ExecutionRow, entry: InboxRow | Parked) -> Deliver | Request:
    n = entry.n if isinstance(entry, InboxRow) else None
    if entry.what not in ("signal", "event"):
        return Request(row, entry.what, entry.name, entry.data, n)
    kind = Kind.SIGNAL_RECEIVED if entry.kind is None else Kind(entry.kind)
    return Deliver(row, kind, entry.ref, entry.name, entry.data, n)
