"""Running attempts: on the loop, in threads, in processes, as programs, or inside the runner's own transaction.

1. Every attempt that `start` takes is answered by exactly one `AttemptDone` (or `TransactionDue`), from any thread.
2. An attempt that is abandoned or timed out is ended where that can be done: a coroutine, a process and a program are,
   a thread is asked (`attempt.cancelled`). Its outcome is ignored.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from perdure.activity import ActivityOptions, attempt_var
from perdure.codec import decode_failure, rebuild_failure
from perdure.codec.payload import Payloads
from perdure.engine import program
from perdure.engine.attempt import Attempt
from perdure.engine.eager import start_eagerly
from perdure.engine.inputs import AttemptDone, AttemptStarts, Input, TransactionDue
from perdure.engine.limits import Limits, limited
from perdure.engine.outcomes import Stopped
from perdure.engine.process import Message, Order, ProcessRun, Worker
from perdure.errors import ActivityTimeout, FinishLater


class Executor:
    """See the module. `submit` hands an outcome to the runner; `now` gives microseconds since 1970."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        submit: Callable[[Input], None],
        now: Callable[[], int],
        payloads: Payloads,
        *,
        max_async: int,
        max_threads: int,
        max_processes: int,
    ) -> None:
        self.loop = loop
        self.submit = submit
        self.payloads = payloads
        self.max_async = max_async
        self.max_threads = max_threads
        self.max_processes = max_processes
        self.running: dict[Attempt, None] = {}
        """Attempts that were handed in and have not answered, whether they got a place yet or wait for one."""
        self.limits = Limits(loop, now, self.running, self._time_out)
        self.stopping = False
        self.on_heartbeat: Callable[[Attempt], None] | None = None
        self._places = max_async
        self._queue: deque[Attempt] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._listeners: ThreadPoolExecutor | None = None
        """One thread per worker process; it starts the worker, gives it work and listens to it."""
        self._listener = threading.local()
        self._workers: set[Worker] = set()

    # --- starting ---------------------------------------------------------------------------------------------------

    def start(self, attempt: Attempt) -> None:
        """Take an attempt; runs it now or when a place is free. On the loop's thread."""
        options = attempt.activity_def.defaults
        if options.executor == "transaction":
            self.submit(TransactionDue(attempt, attempt.number))
            return
        self.running[attempt] = None
        attempt.on_heartbeat = self._heartbeat
        if options.executor == "thread" or options.executor == "process":
            self._start_elsewhere(attempt, options)
        elif self._places:
            self._start_here(attempt, options)
        else:
            self._queue.append(attempt)
            self.limits.handed_in(attempt)

    def _start_here(self, attempt: Attempt, options: ActivityOptions) -> None:
        self._places -= 1
        run = self._run_program if options.executor == "exec" else self._run_async
        attempt.unbegun = True
        if limited(options):
            self.limits.started(attempt)
        task = start_eagerly(self.loop, run(attempt, attempt.number))
        if attempt in self.running:  # it has not ended yet
            attempt.handle = task

    def _free_place(self) -> None:
        self._places += 1
        if self._queue:
            self._fill_places()

    def _fill_places(self) -> None:
        while self._places and self._queue:
            attempt = self._queue.popleft()
            if attempt.ended:
                self.running.pop(attempt, None)
            else:
                attempt.disarm()
                self._start_here(attempt, attempt.activity_def.defaults)

    def _start_elsewhere(self, attempt: Attempt, options: ActivityOptions) -> None:
        self.limits.handed_in(attempt)
        if options.executor == "process":
            if self._listeners is None:
                self._listeners = ThreadPoolExecutor(self.max_processes, thread_name_prefix="perdure-process")
            stay = attempt.handle = ProcessRun()
            self._listeners.submit(self._run_in_process, attempt, attempt.number, stay)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.max_threads, thread_name_prefix="perdure-activity")
        future = attempt.handle = self._threads.submit(self._run_in_thread, attempt, attempt.number)
        future.add_done_callback(functools.partial(self._thread_done, attempt, attempt.number))

    # --- running ----------------------------------------------------------------------------------------------------

    async def _run_async(self, attempt: Attempt, number: int) -> None:
        activity = attempt.activity_def
        attempt.unbegun = False
        outcome: str | BaseException
        try:
            if attempt.stop or attempt.ended or attempt.needs_proof:
                await self._starts_here(attempt)
            attempt_var.set(attempt)
            args, kwargs = activity.arguments.call_args(attempt.data)
            outcome = activity.arguments.result.check(await activity.fn(*args, **kwargs))
            self.payloads.check_size(outcome)
        except asyncio.CancelledError as error:
            outcome = self._why_cancelled(attempt, error)
        except KeyboardInterrupt:
            self._free_place()
            self.running.pop(attempt, None)
            raise
        except BaseException as error:
            outcome = error
        self._free_place()
        self._done(attempt, number, outcome)

    async def _starts_here(self, attempt: Attempt) -> None:
        """Hold an attempt until its start is in the file, if it has to be. Raises `Stopped` when it is not to run."""
        if attempt.needs_proof and not (attempt.stop or attempt.ended):
            begun: asyncio.Future[None] = self.loop.create_future()
            self.submit(AttemptStarts(attempt, attempt.number, lambda: _resolve(begun)))
            await begun
        if attempt.stop or attempt.ended:
            raise Stopped

    def _starts_elsewhere(self, attempt: Attempt) -> None:
        """Do the same for an attempt on a thread of its own, and start its limits."""
        if attempt.needs_proof and not (attempt.stop or attempt.ended):
            begun = self._make_event()
            self.submit(AttemptStarts(attempt, attempt.number, begun.set))
            begun.wait()
        if attempt.stop or attempt.ended:
            raise Stopped
        if limited(attempt.activity_def.defaults):
            self.loop.call_soon_threadsafe(self.limits.started, attempt)

    def _make_event(self) -> threading.Event:
        """Make what a thread waits for. A simulation replaces this."""
        return threading.Event()

    def _run_in_thread(self, attempt: Attempt, number: int) -> None:
        outcome: str | BaseException
        try:
            self._starts_elsewhere(attempt)
            outcome = contextvars.Context().run(_call, attempt)
            self.payloads.check_size(outcome)
        except BaseException as error:
            outcome = self._why_cancelled(attempt, error)
        self._done(attempt, number, outcome)

    def _thread_done(self, attempt: Attempt, number: int, future: Future[None]) -> None:
        if future.cancelled():  # it never got its thread
            self._done(attempt, number, Stopped())

    def _run_in_process(self, attempt: Attempt, number: int, stay: ProcessRun) -> None:
        outcome: str | BaseException = Stopped()
        try:
            worker = self._worker()
            if stay.enter(worker):
                self._starts_elsewhere(attempt)
                outcome = self._outcome(worker.run(_order(attempt), attempt.beat))
        except BaseException as error:
            outcome = self._why_cancelled(attempt, error)
        finally:
            stay.leave()
        self._done(attempt, number, outcome)

    def _worker(self) -> Worker:
        """Give this thread's worker, a new one if that has ended."""
        worker: Worker | None = getattr(self._listener, "worker", None)
        if worker is None or not worker.usable:
            self._workers.discard(worker)
            worker = self._listener.worker = Worker()
            self._workers.add(worker)
            worker.start()
        return worker

    def _outcome(self, message: Message) -> str | BaseException:
        if message.what == "later":
            return FinishLater()
        if message.what == "failed":
            return rebuild_failure(decode_failure(message.text))
        self.payloads.check_size(message.text)
        return message.text

    async def _run_program(self, attempt: Attempt, number: int) -> None:
        log = ""
        attempt.unbegun = False
        outcome: str | BaseException
        try:
            await self._starts_here(attempt)
            output, log = await program.run(attempt, self.payloads.max_bytes)
            outcome = program.result(attempt.activity_def, output)
            self.payloads.check_size(outcome)
        except asyncio.CancelledError as error:
            outcome = self._why_cancelled(attempt, error)
        except (Exception, Stopped) as error:
            outcome, log = error, log or getattr(error, "stderr", "")
        self._free_place()
        self._done(attempt, number, outcome, log)

    def _done(self, attempt: Attempt, number: int, outcome: str | BaseException, log: str | None = None) -> None:
        self.running.pop(attempt, None)
        attempt.handle = None  # it leads back to the attempt: together they would wait for the garbage collector
        if not attempt.ended:
            self.submit(AttemptDone(attempt, number, outcome, log))

    def _why_cancelled(self, attempt: Attempt, error: BaseException) -> BaseException:
        if self.stopping and attempt.stop:
            return Stopped()
        return error

    def _time_out(self, attempt: Attempt, error: ActivityTimeout) -> None:
        self.running.pop(attempt, None)
        attempt.disarm()
        attempt.stop = attempt.ended = True
        self.submit(AttemptDone(attempt, attempt.number, error))
        attempt.cancel()

    def _heartbeat(self, attempt: Attempt, details: str) -> None:
        self.payloads.check_size(details)
        attempt.beat_at, attempt.details = self.loop.time(), details
        if self.on_heartbeat is not None:
            self.on_heartbeat(attempt)

    # --- stopping ---------------------------------------------------------------------------------------------------

    async def drain(self, grace_s: float) -> None:
        """Give running attempts `grace_s` seconds to end, then cancel them; each still answers, with `Stopped`."""
        deadline = self.loop.time() + grace_s
        while self._queue:  # nothing new starts
            attempt = self._queue.popleft()
            self._done(attempt, attempt.number, Stopped())
        while self.running and self.loop.time() < deadline:
            await asyncio.sleep(min(0.02, max(deadline - self.loop.time(), 0)))
        self.stopping = True
        for attempt in list(self.running):
            attempt.stop = True
            attempt.cancel()
        stopped = self.loop.time()
        while any(self.loop.time() - stopped < _patience_s(attempt) for attempt in list(self.running)):
            await asyncio.sleep(0.01)
        for attempt in list(self.running):  # what it still does nobody waits for
            self._done(attempt, attempt.number, Stopped())
            attempt.ended = True

    def close(self) -> None:
        self._queue.clear()
        for pool in (self._threads, self._listeners):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        self._threads = self._listeners = None
        for worker in list(self._workers):
            worker.end()
        self._workers.clear()


def _patience_s(attempt: Attempt) -> float:
    """Give the time that an attempt has to end once it was cancelled. A thread may look at `cancelled`, or not."""
    return 0.5 if isinstance(attempt.handle, Future) else program.KILL_AFTER_S + 0.5


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _call(attempt: Attempt) -> str:
    attempt_var.set(attempt)
    activity = attempt.activity_def
    args, kwargs = activity.arguments.call_args(attempt.data)
    return activity.returns.check(activity.fn(*args, **kwargs))


def _order(attempt: Attempt) -> Order:
    fn = attempt.activity_def.fn
    return Order(
        fn.__module__,
        fn.__qualname__,
        attempt.data,
        attempt.execution_id,
        attempt.activity,
        attempt.number,
        attempt.idempotency_key,
        attempt.token,
        attempt.last,
    )


def default_threads() -> int:
    return min(32, (os.cpu_count() or 1) + 4)
