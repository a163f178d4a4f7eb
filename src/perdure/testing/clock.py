"""Virtual time: a clock that moves only when it is told to, and an event loop that tells it.

The loop does not wait for its next timer: it moves the clock there. So the real engine runs unchanged, and a sleep of
30 days takes no time. What is awaited outside the loop (a thread, a process, a socket) is waited for really, and takes
no virtual time.

    something ready ──▶ run it
    nothing ready ──▶ something real awaited? ── yes ──▶ wait for it, at most `patience_s`
                                   │ no
                                   ▼
                      on_quiet() ──▶ a timer left? ── yes ──▶ move the clock to it
                                            │ no
                                            ▼
                                       NothingLeft
"""

from __future__ import annotations

import asyncio
import contextlib
import selectors
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar, TypeVarTuple

from perdure.errors import PerdureError
from perdure.types import microseconds

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

START = datetime(2030, 1, 1, tzinfo=UTC)
"""Where virtual time begins unless another instant is given."""
RESOLUTION_S = 1e-6


class NothingLeft(PerdureError):
    """Nothing is ready, no timer is set and nothing real is awaited: what is waited for can never come."""


class VirtualClock:
    """Both clocks of a machine. Time stands still until someone moves it."""

    def __init__(self, start: datetime = START) -> None:
        self._wall_us = microseconds(start)
        self._elapsed_us = 0

    def now_us(self) -> int:
        """Give the wall clock, in microseconds since 1970."""
        return self._wall_us

    def monotonic(self) -> float:
        """Give the seconds that have passed since the clock was made. `jump` does not change it."""
        return self._elapsed_us / 1e6

    def advance(self, seconds: float) -> None:
        """Let time pass. Raises `ValueError` for less than 0 seconds."""
        if seconds < 0:
            raise ValueError(f"time passes forward only, not {seconds!r} seconds; jump() sets the wall clock back")
        passed = round(seconds * 1e6)
        self._elapsed_us += passed
        self._wall_us += passed

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward or, with less than 0, back, as a person or a time server does."""
        self._wall_us += round(seconds * 1e6)


class VirtualLoop(asyncio.SelectorEventLoop):
    """See the module. `busy` says whether something real is under way that the loop cannot see; `hold()` and
    `run_in_executor` say so as well. Sockets and pipes of transports count as awaited, those of `add_reader` do not.

    `on_quiet`, if set, is called when nothing is ready at this instant; if it calls `stop()`, no time passes.
    `on_advance` is called after the clock was moved to a timer. Also runs inside another loop's callback or task,
    which then stands still meanwhile.
    """

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]
    _stopping: bool
    _clock_resolution: float

    def __init__(
        self, clock: VirtualClock, *, busy: Callable[[], bool] | None = None, patience_s: float = 10.0
    ) -> None:
        self.clock = clock
        self.busy = busy
        self.patience_s = patience_s
        self.on_quiet: Callable[[], object] | None = None
        self.on_advance: Callable[[], object] | None = None
        self._holds = 0
        self._holding = threading.Lock()
        self._children: list[asyncio.SubprocessTransport] = []
        self._unseen: set[int] = set()
        """File descriptors that may become ready but that nobody waits for."""
        self._virtual = _Selector(self)
        super().__init__(self._virtual)
        self._clock_resolution = RESOLUTION_S
        self._unseen.update(self._virtual.get_map())  # its own pipe for call_soon_threadsafe

    # --- time -------------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self.clock.monotonic()

    def next_at(self) -> float | None:
        """Give the time of the next timer on this loop's clock; None without one."""
        if self._scheduled and not self._scheduled[0].cancelled():  # a heap
            return self._scheduled[0].when()
        return min((handle.when() for handle in self._scheduled if not handle.cancelled()), default=None)

    # --- what is real -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Keep the clock still: something real is under way. From any thread."""
        self._hold(1)
        try:
            yield
        finally:
            self._hold(-1)

    def _hold(self, change: int) -> None:
        with self._holding:
            self._holds += change
        if change < 0:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                self.call_soon_threadsafe(_nothing)

    def awaited(self) -> tuple[int, bool, int, frozenset[int]]:
        """Give what is awaited outside the loop: holds, whether it is busy, child processes and file descriptors."""
        self._children = [child for child in self._children if child.get_returncode() is None]
        fds = frozenset(self._virtual.get_map()) - self._unseen
        return self._holds, self.busy is not None and self.busy(), len(self._children), fds

    def add_reader(self, fd: Any, callback: Callable[[*Ts], Any], *args: *Ts) -> None:
        super().add_reader(fd, callback, *args)
        self._unseen.add(fd if isinstance(fd, int) else fd.fileno())

    def remove_reader(self, fd: Any) -> bool:
        self._unseen.discard(fd if isinstance(fd, int) else fd.fileno())
        return super().remove_reader(fd)

    def run_in_executor(self, executor: Any, func: Callable[[*Ts], T], *args: *Ts) -> asyncio.Future[T]:
        future = super().run_in_executor(executor, func, *args)
        self._hold(1)
        future.add_done_callback(lambda _: self._hold(-1))
        return future

    async def _make_subprocess_transport(self, *args: Any, **kwargs: Any) -> asyncio.SubprocessTransport:
        transport: asyncio.SubprocessTransport
        transport = await super()._make_subprocess_transport(*args, **kwargs)  # type: ignore[misc]  # not in typeshed
        self._children.append(transport)
        return transport

    # --- running ----------------------------------------------------------------------------------------------------

    def run_ready(self) -> None:
        """Run everything that is ready, and what that makes ready, without letting time pass."""
        before, self.on_quiet = self.on_quiet, self.stop
        try:
            self.run_forever()
        finally:
            self.on_quiet = before

    def run_forever(self) -> None:
        with no_loop_around():
            super().run_forever()

    def run_until_complete(self, future: Generator[Any, None, T] | asyncio.Future[T] | Any) -> T:
        with no_loop_around():
            result: T = super().run_until_complete(future)
            return result

    def _pass_time(self) -> None:
        """Nothing is ready: let time pass until something is."""
        when = self.next_at()
        if when is not None and when < self.time() + RESOLUTION_S:
            return  # it is due already as asyncio sees it, which compares floats: all is not quiet
        if self.on_quiet is not None:
            self.on_quiet()
            if self._stopping or self._ready:
                return
        when = self.next_at()
        if when is None:
            raise NothingLeft(
                "nothing can happen any more: no timer is set and nothing outside is awaited",
                hint="look for what should have woken what is waited for",
            )
        self.clock.advance(max(when - self.time(), 0))
        while self.time() + RESOLUTION_S <= when:  # a far instant, where a float is coarser than the clock
            self.clock.advance(RESOLUTION_S)
        if self.on_advance is not None:
            self.on_advance()


class _Selector(selectors.BaseSelector):
    """Lets time pass where another selector would wait."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.real = selectors.DefaultSelector()
        self._hopeless: object = None
        """What did not answer within the loop's patience: not waited for again before something does."""

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        events = self.real.select(0)
        if not events and (timeout is None or timeout > 0):
            awaited = self.loop.awaited()
            if any(awaited) and awaited != self._hopeless:
                events = self.real.select(self.loop.patience_s)
                self._hopeless = None if events else awaited
            if not events:
                self.loop._pass_time()
        return events

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.real.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self.real.unregister(fileobj)

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self.real.modify(fileobj, events, data)

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self.real.get_map()

    def close(self) -> None:
        self.real.close()


@contextlib.contextmanager
def no_loop_around() -> Iterator[None]:
    """Hide the loop that is running, if any: a test may be a coroutine."""
    outer = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(outer)


def _nothing() -> None:
    pass
