"""The event loop of one simulated process: it runs one callback when the scheduler says so, on virtual time."""

from __future__ import annotations

import asyncio
import heapq
import math
from asyncio.events import _set_running_loop
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulation.process import Process


class ProcessLoop(asyncio.BaseEventLoop):
    """See the module. Callbacks of one process run in the order in which they became ready, as asyncio's do."""

    _ready: deque[asyncio.Handle]
    _scheduled: list[asyncio.TimerHandle]

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.clock = process.scheduler.clock
        self.readers: dict[int, Callable[[], object]] = {}

    def time(self) -> float:
        return self.clock.monotonic()

    # --- what the scheduler asks --------------------------------------------------------------------------------------

    def able(self, now: float) -> bool:
        """Say whether there is a callback to run. Timers that are due become ready."""
        timers = self._scheduled
        while timers and (timers[0].when() <= now or timers[0].cancelled()):
            timer = heapq.heappop(timers)
            timer._scheduled = False  # type: ignore[attr-defined]
            if not timer.cancelled():
                self._ready.append(timer)
        return bool(self._ready)

    def next_at(self) -> float:
        return self._scheduled[0].when() if self._scheduled else math.inf

    def run_one(self) -> None:
        """Run the next callback."""
        handle = self._ready.popleft()
        if handle.cancelled():
            return
        _set_running_loop(self)
        try:
            handle._run()
        finally:
            _set_running_loop(None)

    def bury(self) -> None:
        """Take apart what a killed process leaves in memory. What its code does meanwhile reaches nobody."""
        for task in asyncio.all_tasks(self):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine = task.get_coro()
            if coroutine is not None:
                self._close(coroutine)
        self.readers.clear()
        self.close()

    def _close(self, coroutine: Any) -> None:
        try:
            coroutine.close()
        except BaseException:  # its `finally` blocks ran on a dead process
            return

    # --- what the engine asks -----------------------------------------------------------------------------------------

    def call_soon_threadsafe(  # type: ignore[override]  # Any in place of type variables
        self, callback: Any, *args: Any, context: Any = None
    ) -> asyncio.Handle:
        return self.call_soon(callback, *args, context=context)

    def add_reader(  # type: ignore[override]  # Any in place of type variables
        self, fd: Any, callback: Callable[..., object], *args: Any
    ) -> None:
        self.readers[fd] = callback

    def remove_reader(self, fd: Any) -> bool:
        return self.readers.pop(fd, None) is not None

    def readable(self, fd: int) -> None:
        """Say that something can be read from `fd`."""
        if fd in self.readers:
            self.call_soon(self.readers[fd])

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if self.process.alive:
            self.process.failed(context)

    def _check_closed(self) -> None:
        """Let a process that is being taken apart call what it likes: it runs no more."""

    def _check_running(self) -> None:
        return

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        return
