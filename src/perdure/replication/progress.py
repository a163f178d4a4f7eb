"""Which of our commits are in the bucket, and waiting for one to be.

1. Commits are numbered from 1 as they are made; 0 is what was there before. Litestream has numbers of its own; a `sync`
   that is asked after commit n answers with a number that covers n.
2. One question to Litestream is under way at a time and serves all who wait, as one sync serves a batch.
3. Nothing here delays a commit. While Litestream does not answer, commits count as not in the bucket.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from perdure.replication.control import ControlError, Positions

logger = logging.getLogger("perdure.replication")

SOON_S = 0.005
"""Between two questions at the least. Each one makes a file to upload of what was committed meanwhile, and files go up
one after another: asked more often than they get there, they would pile up."""
LATER_S = 1.0
"""After a question that was not answered."""


class Mark(NamedTuple):
    """A sync's answer: what Litestream calls the state that has our commits up to `commit`."""

    txid: int
    commit: int
    committed_at: int
    asked_at: float
    """When it was asked, in seconds of the monotonic clock: what anyone had committed by then is covered."""


class Lag(NamedTuple):
    """How far the bucket is behind."""

    commits: int
    seconds: float
    """Age of the oldest commit that is not there."""
    replicated_at: int | None
    """The instant of the newest commit that is there, microseconds since 1970."""


class Progress:
    """See the module. `sync` asks Litestream and blocks; `now` gives microseconds since 1970. `interval_s` is how often
    to look while nobody waits."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sync: Callable[[], Positions],
        now: Callable[[], int],
        interval_s: float = 0.25,
    ) -> None:
        self.loop = loop
        self.sync = sync
        self.now = now
        self.interval_s = interval_s
        self.committed = 0
        self.replicated = -1
        self.replicated_at: int | None = None
        self.covers = 0.0
        """Whatever was committed before this instant of the monotonic clock, by any process, is in the bucket."""
        self.arrived = asyncio.Event()
        """Set when all of the database is at its path for the first time."""
        self.ending = False
        """Whether Litestream is being stopped: then it need not answer."""
        self.on_reached: Callable[[], None] | None = None
        self.problem: str | None = None
        self.positions = Positions(0, 0)
        """What Litestream said last."""
        self._loop_thread = threading.get_ident()
        self._newest_at = 0
        self._open: deque[tuple[int, int]] = deque()
        """Commits that are not known to be in the bucket, thinned out: (number, instant), oldest first."""
        self._marks: deque[Mark] = deque()
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._asking: asyncio.Future[None] | None = None
        self._next: asyncio.TimerHandle | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="perdure-replication")
        self._trip_s = 0.05
        """How long it takes of late from a question until what it covers is in the bucket."""
        self.ending = False
        """Litestream is told to stop: that it does not answer then is no news."""
        self._trusted = False
        self._life = 0
        """Which Litestream is asked: an answer of the one before says nothing."""
        self._closed = False

    def commit(self) -> int:
        """Note a commit that was just made; give its number. From any thread, but from one at a time."""
        self.committed += 1
        number, self._newest_at = self.committed, self.now()
        if threading.get_ident() == self._loop_thread:
            self._note(number, self._newest_at)
        elif not self._closed:
            self.loop.call_soon_threadsafe(self._note, number, self._newest_at)
        return number

    def _note(self, commit: int, at: int) -> None:
        if commit > self.replicated and (not self._open or at - self._open[-1][1] > 50_000):  # exact enough for people
            self._open.append((commit, at))
        self._ask_in(self.interval_s)

    def when_replicated(self, commit: int, call: Callable[[], None]) -> None:
        """Call `call` on the loop once `commit` is in the bucket; at once if it is. `commit` must not be less than that
        of the call before."""
        if commit <= self.replicated:
            call()
            return
        self._waiting.append((commit, call))
        self._ask_in(0.0)

    async def reached(self, commit: int | None = None) -> None:
        """Wait until a commit, by default the newest, is in the bucket."""
        done: asyncio.Future[None] = self.loop.create_future()

        def arrived() -> None:
            if not done.done():
                done.set_result(None)

        self.when_replicated(self.committed if commit is None else commit, arrived)
        await done

    def trust(self) -> None:
        """Count what is at the path as being in the bucket from now on: until then a restore would not look there."""
        self._trusted = True
        self._ask_in(0.0)

    def restarted(self) -> None:
        """Forget Litestream's numbers: a new one counts anew."""
        self._marks.clear()
        self._life += 1
        self._ask_in(0.0)

    def look(self) -> None:
        """Ask now, also when nothing was committed here."""
        self._ask_in(0.0)

    def lag(self) -> Lag:
        behind = self.committed - max(self.replicated, 0)
        oldest = self._open[0][1] if behind and self._open else self.now()
        return Lag(behind, max(self.now() - oldest, 0) / 1e6 if behind else 0.0, self.replicated_at)

    def close(self) -> None:
        self._closed = True
        if self._next is not None:
            self._next.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- asking -----------------------------------------------------------------------------------------------------

    def _ask_in(self, delay_s: float) -> None:
        """Ask Litestream after `delay_s`, or sooner if that is planned; one question at a time."""
        if self._closed or self._asking is not None:
            return
        if self._next is not None:
            if self._next.when() <= self.loop.time() + delay_s:
                return
            self._next.cancel()
        self._next = self.loop.call_later(delay_s, self._ask)

    def _ask(self) -> None:
        self._next = None
        covered, at = self.committed, self._newest_at
        self._asking = self.loop.run_in_executor(self._thread, self._question, self._life, covered, at)

    def _question(self, life: int, covered: int, at: int) -> None:
        asked_at = time.monotonic()
        try:
            positions: Positions | ControlError = self.sync()
        except ControlError as error:
            positions = error
        except Exception as error:  # a fault of ours: the next question must be asked all the same
            positions = ControlError(f"{type(error).__name__}: {error}")
        if not self._closed:
            self.loop.call_soon_threadsafe(self._answer, life, covered, at, asked_at, positions)

    def _answer(self, life: int, covered: int, at: int, asked_at: float, positions: Positions | ControlError) -> None:
        self._asking = None
        if life != self._life:
            self._ask_in(0.0)
            return
        if isinstance(positions, ControlError):
            if self.problem is None:
                expected = self.ending or not self.arrived.is_set()  # at the beginning, and at the end
                level = logging.DEBUG if expected else logging.WARNING
                logger.log(level, "what is in the bucket is not known for now: %s", positions.message)
            self.problem = positions.message
            self._ask_in(LATER_S)
            return
        self.problem = None
        self.positions = positions
        if self._marks and self._marks[-1].txid == positions.txid:
            self._marks.pop()
        self._marks.append(Mark(positions.txid, covered, at, asked_at))
        if self._marks[0].txid <= positions.replicated_txid:
            self.arrived.set()
        while self._trusted and self._marks and self._marks[0].txid <= positions.replicated_txid:
            mark = self._marks.popleft()
            self._reach(mark)
        if self._waiting:
            self._ask_in(min(max(self._trip_s / 5, SOON_S), self.interval_s))
        elif self._marks or self.replicated < self.committed:
            self._ask_in(self.interval_s)

    def _reach(self, mark: Mark) -> None:
        self.covers = mark.asked_at
        self._trip_s = 0.8 * self._trip_s + 0.2 * (time.monotonic() - mark.asked_at)
        if mark.commit > self.replicated:
            self.replicated, self.replicated_at = mark.commit, mark.committed_at or None
        while self._open and self._open[0][0] <= self.replicated:
            self._open.popleft()
        while self._waiting and self._waiting[0][0] <= self.replicated:
            self._waiting.popleft()[1]()
        if self.on_reached is not None:
            self.on_reached()
