"""Simulated threads: each job of the pool is a strand of its process."""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from simulation.process import Process
from simulation.scheduler import Killed, Strand


class Pool:
    """Stands in for `ThreadPoolExecutor`: as many jobs at once as it has threads, the others wait."""

    def __init__(self, process: Process, threads: int) -> None:
        self.process = process
        self.free = threads
        self.queue: deque[tuple[Future[Any], Callable[[], Any]]] = deque()

    def submit(self, fn: Callable[..., Any], *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.queue.append((future, lambda: fn(*args)))
        self._take()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        while cancel_futures and self.queue:
            self.queue.popleft()[0].cancel()

    def _take(self) -> None:
        while self.free and self.queue:
            future, job = self.queue.popleft()
            if future.set_running_or_notify_cancel():
                self.free -= 1
                strand = Strand(self.process, functools.partial(self._run, future, job))
                self.process.strands.append(strand)
                strand.until = self.process.scheduler.now

    def _run(self, future: Future[Any], job: Callable[[], Any]) -> None:
        strand = self.process.scheduler.current
        assert strand is not None
        strand.until = None
        try:
            future.set_result(job())
        except Killed:
            return
        except BaseException as error:
            future.set_exception(error)
        self.process.strands.remove(strand)
        self.free += 1
        self._take()


class Begun:
    """Stands in for `threading.Event`: a strand waits for it in virtual time."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self._waiting: Strand | None = None
        self._is_set = False

    def set(self) -> None:
        self._is_set = True
        if self._waiting is not None:
            self._waiting.until = self.process.scheduler.now

    def wait(self) -> None:
        while not self._is_set:
            self._waiting = self.process.scheduler.current
            self.process.scheduler.wait(float("inf"))
