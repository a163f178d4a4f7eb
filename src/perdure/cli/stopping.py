"""Ctrl-C and SIGTERM: the first asks to stop in order, the second stops at once."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import NoReturn, Self

from perdure.cli.exits import ExitCode

JOIN_S = 0.5
"""How long threads that should be ending are waited for."""


class Stop:
    """Awaitable by `wait`. `said` is called at the first signal, with its name."""

    def __init__(self, said: Callable[[str], None]) -> None:
        self.said = said
        self._event = asyncio.Event()
        self._signals = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # under nohup it stays ignored
            self._signals.append(signal.SIGHUP)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.add_signal_handler(number, self._received, number)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loop = asyncio.get_running_loop()
        for number in self._signals:
            loop.remove_signal_handler(number)

    @property
    def requested(self) -> bool:
        return self._event.is_set()

    async def wait(self) -> None:
        await self._event.wait()

    def _received(self, number: signal.Signals) -> None:
        if self.requested:
            leave(ExitCode.INTERRUPTED)  # nothing acknowledged is lost: it is in the file
        self._event.set()
        self.said(number.name)


def leave(code: int) -> NoReturn:
    """End the process now: not even a thread that is stuck in an activity keeps it."""
    for child in multiprocessing.active_children():
        child.kill()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def leave_if_stuck(code: int) -> None:
    """End the process if threads are still running user code; otherwise let it end as usual."""
    deadline = time.monotonic() + JOIN_S
    for thread in threading.enumerate():
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(max(deadline - time.monotonic(), 0))
            if thread.is_alive():
                leave(code)
