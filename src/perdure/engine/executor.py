"""Running attempts: on the loop, in threads, in processes, as programs, or inside the runner's own transaction.

1. Every attempt that `start` takes is answered by exactly one `AttemptDone` (or `TransactionDue`), from any thread.
2. An attempt that is abandoned or timed out is cancelled where that can be done: a coroutine and a program are, a
   thread or a process is asked (`attempt.cancelled`) and its outcome ignored.
"""

from __future__ import annotations

import asyncio
import contextvars
import multiprocessing
import os
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool

from perdure.activity import ActivityOptions, attempt_var
from perdure.codec.payload import Payloads
from perdure.engine import program
from perdure.engine.attempt import Attempt
from perdure.engine.inputs import AttemptDone, Input, TransactionDue
from perdure.engine.outcomes import Stopped
from perdure.engine.process import run_in_process
from perdure.errors import ActivityTimeout, AttemptInterrupted


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
        self.now = now
        self.payloads = payloads
        self.max_async = max_async
        self.max_threads = max_threads
        self.max_processes = max_processes
        self.running: dict[Attempt, None] = {}
        """Attempts that were handed in and have not answered, whether they got a place yet or wait for one."""
        self.stopping = False
        self.on_heartbeat: Callable[[Attempt], None] | None = None
        self._places = max_async
        self._queue: deque[Attempt] = deque()
        self._threads: ThreadPoolExecutor | None = None
        self._processes: ProcessPoolExecutor | None = None

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
            self._arm_start_limit(attempt, options)

    def _start_here(self, attempt: Attempt, options: ActivityOptions) -> None:
        self._places -= 1
        run = self._run_program if options.executor == "exec" else self._run_async
        attempt.handle = self.loop.create_task(run(attempt, attempt.number))
        if options is not _PLAIN and _limited(options):
            self._arm(attempt, options)

    def _free_place(self) -> None:
        self._places += 1
        while self._places and self._queue:
            attempt = self._queue.popleft()
            if attempt.ended or attempt.handle is not None:
                self.running.pop(attempt, None)
                continue
            attempt.disarm()
            self._start_here(attempt, attempt.activity_def.defaults)

    def _start_elsewhere(self, attempt: Attempt, options: ActivityOptions) -> None:
        self._arm_start_limit(attempt, options)
        if options.executor == "process":
            self._start_process(attempt)
            return
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self.max_threads, thread_name_prefix="perdure-activity")
        attempt.handle = self._threads.submit(self._run_in_thread, attempt, attempt.number)

    # --- running ----------------------------------------------------------------------------------------------------

    async def _run_async(self, attempt: Attempt, number: int) -> None:
        activity = attempt.activity_def
        outcome: str | BaseException
        try:
            attempt_var.set(attempt)
            args, kwargs = activity.arguments.call_args(attempt.data)
            outcome = activity.returns.check(await activity.fn(*args, **kwargs))
            self.payloads.check_size(outcome)
        except asyncio.CancelledError as error:
            outcome = self._why_cancelled(attempt, error)
        except (KeyboardInterrupt, SystemExit):
            self._free_place()
            self.running.pop(attempt, None)
            raise
        except BaseException as error:
            outcome = error
        self._free_place()
        self._done(attempt, number, outcome)

    def _run_in_thread(self, attempt: Attempt, number: int) -> None:
        if attempt.ended:
            self.running.pop(attempt, None)
            return
        if _limited(attempt.activity_def.defaults):
            self.loop.call_soon_threadsafe(self._arm, attempt, attempt.activity_def.defaults)
        outcome: str | BaseException
        try:
            outcome = contextvars.Context().run(_call, attempt)
            self.payloads.check_size(outcome)
        except BaseException as error:
            outcome = Stopped() if self.stopping and attempt.stop else error
        self._done(attempt, number, outcome)

    async def _run_program(self, attempt: Attempt, number: int) -> None:
        activity = attempt.activity_def
        log = ""
        outcome: str | BaseException
        try:
            output, log = await program.run(attempt)
            outcome = activity.returns.check(activity.returns.decode(output))
            self.payloads.check_size(outcome)
        except asyncio.CancelledError as error:
            outcome = self._why_cancelled(attempt, error)
        except Exception as error:
            outcome, log = error, getattr(error, "stderr", "")
        self._free_place()
        self._done(attempt, number, outcome, log)

    def _start_process(self, attempt: Attempt) -> None:
        if self._processes is None:
            # spawn, not fork: a forked child would inherit our threads' locks and our database connections
            context = multiprocessing.get_context("spawn")
            self._processes = ProcessPoolExecutor(self.max_processes, mp_context=context)
        fn, number = attempt.activity_def.fn, attempt.number
        future = self._processes.submit(run_in_process, fn.__module__, fn.__qualname__, attempt.data)
        attempt.handle = future
        future.add_done_callback(lambda done: self._process_done(attempt, number, done))
        if _limited(attempt.activity_def.defaults):
            self._arm(attempt, attempt.activity_def.defaults)

    def _process_done(self, attempt: Attempt, number: int, future: Future[tuple[bool, str]]) -> None:
        from perdure.codec import decode_failure, rebuild_failure

        outcome: str | BaseException
        try:
            ok, text = future.result()
            outcome = text if ok else rebuild_failure(decode_failure(text))
            self.payloads.check_size(text)
        except BrokenProcessPool:
            self._processes = None
            outcome = AttemptInterrupted(f"the process that ran {attempt.activity} died")
        except BaseException as error:
            outcome = Stopped() if self.stopping else error
        self._done(attempt, number, outcome)

    def _done(self, attempt: Attempt, number: int, outcome: str | BaseException, log: str | None = None) -> None:
        self.running.pop(attempt, None)
        if not attempt.ended:
            self.submit(AttemptDone(attempt, number, outcome, log))

    def _why_cancelled(self, attempt: Attempt, error: BaseException) -> BaseException:
        if self.stopping and attempt.stop:
            return Stopped()
        return error

    # --- limits -----------------------------------------------------------------------------------------------------

    def _arm_start_limit(self, attempt: Attempt, options: ActivityOptions) -> None:
        if options.start_timeout_s is not None and attempt.number == 1:
            left = options.start_timeout_s - (self.now() - attempt.scheduled_at) / 1e6
            attempt.alarms.append(
                self.loop.call_later(max(left, 0), self._time_out, attempt, attempt.number, "start_timeout_s")
            )

    def _arm(self, attempt: Attempt, options: ActivityOptions) -> None:
        """Set the alarms of an attempt that has started. On the loop's thread."""
        attempt.disarm()
        if attempt.ended:
            return
        number = attempt.number
        attempt.beat_at = time.monotonic()
        if options.timeout_s is not None:
            self._alarm(attempt, options.timeout_s, "timeout_s")
        if options.total_timeout_s is not None:
            left = options.total_timeout_s - (self.now() - attempt.scheduled_at) / 1e6
            self._alarm(attempt, max(left, 0), "total_timeout_s")
        if options.heartbeat_timeout_s is not None:
            attempt.alarms.append(
                self.loop.call_later(options.heartbeat_timeout_s, self._check_heartbeat, attempt, number)
            )

    def _alarm(self, attempt: Attempt, delay_s: float, limit: str) -> None:
        attempt.alarms.append(self.loop.call_later(delay_s, self._time_out, attempt, attempt.number, limit))

    def _check_heartbeat(self, attempt: Attempt, number: int) -> None:
        limit = attempt.activity_def.defaults.heartbeat_timeout_s
        if limit is None or attempt.ended or attempt.number != number or attempt not in self.running:
            return
        left = attempt.beat_at + limit - time.monotonic()
        if left <= 0:
            self._time_out(attempt, number, "heartbeat_timeout_s")
        else:
            attempt.alarms.append(self.loop.call_later(left, self._check_heartbeat, attempt, number))

    def _time_out(self, attempt: Attempt, number: int, limit: str) -> None:
        if attempt.ended or attempt.number != number or attempt not in self.running:
            return
        options = attempt.activity_def.defaults
        error = ActivityTimeout(
            f"{attempt.activity} (attempt {number}) ran into {limit}={getattr(options, limit):g}", limit=limit
        )
        self.running.pop(attempt, None)
        attempt.disarm()
        attempt.stop = True
        self.submit(AttemptDone(attempt, number, error))
        handle = attempt.handle
        if handle is not None:
            handle.cancel()

    def _heartbeat(self, attempt: Attempt) -> None:
        attempt.beat_at = time.monotonic()
        if self.on_heartbeat is not None:
            self.on_heartbeat(attempt)

    # --- stopping ---------------------------------------------------------------------------------------------------

    async def drain(self, grace_s: float) -> None:
        """Give running attempts `grace_s` seconds to end, then cancel them; each still answers, with `Stopped`."""
        deadline = time.monotonic() + grace_s
        while self._queue:  # nothing new starts
            attempt = self._queue.popleft()
            self._done(attempt, attempt.number, Stopped())
        while self.running and time.monotonic() < deadline:
            await asyncio.sleep(min(0.02, max(deadline - time.monotonic(), 0)))
        self.stopping = True
        for attempt in list(self.running):
            attempt.stop = True
            if attempt.handle is None:
                self._done(attempt, attempt.number, Stopped())
            else:
                attempt.handle.cancel()
        patience = time.monotonic() + 1.0
        while self.running and time.monotonic() < patience:
            await asyncio.sleep(0.01)

    def close(self) -> None:
        self._queue.clear()
        for pool in (self._threads, self._processes):
            if pool is not None:
                pool.shutdown(wait=False, cancel_futures=True)
        self._threads = self._processes = None


_PLAIN = ActivityOptions()


def _limited(options: ActivityOptions) -> bool:
    return (
        options.timeout_s is not None or options.total_timeout_s is not None or options.heartbeat_timeout_s is not None
    )


def _call(attempt: Attempt) -> str:
    attempt_var.set(attempt)
    activity = attempt.activity_def
    args, kwargs = activity.arguments.call_args(attempt.data)
    return activity.returns.check(activity.fn(*args, **kwargs))


def default_threads() -> int:
    return min(32, (os.cpu_count() or 1) + 4)
