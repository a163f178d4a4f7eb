"""The deterministic event loop that one execution's code runs on.

It runs ready callbacks first in, first out, until nothing is ready; time stands still meanwhile. A timer is a
durable command; it fires when its event arrives. What cannot be durable (sockets, subprocesses, threads) raises an
error that names the activity way.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import sys
from asyncio.events import _get_running_loop, _set_running_loop
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any, NoReturn

from perdure.errors import Evicted, NonDeterminismError
from perdure.replay import ordered
from perdure.replay.call import Call
from perdure.replay.generators import Generators, drop
from perdure.types import LATEST_US

if TYPE_CHECKING:
    from perdure.replay.run import Run

logger = logging.getLogger("perdure.workflow")

SPIN_LIMIT = 1_000_000
"""Callbacks that one input may lead to. Far above any real fan-out; a loop that never waits ends here."""


class Handle(asyncio.Handle):
    """A ready callback. Slimmer than asyncio's: no debug traceback, no exception routing."""

    __slots__ = ()

    def __init__(
        self,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        loop: WorkflowLoop,
        context: contextvars.Context | None,
    ) -> None:
        self._context = contextvars.copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = None
        self._source_traceback = None


class Timer(asyncio.TimerHandle):
    """A durable timer; `seq` is the event that started it, None once it fired or was cancelled."""

    __slots__ = ("due_us", "seq")
    seq: int | None
    due_us: int
    _callback: Callable[..., Any]
    _context: contextvars.Context


class WorkflowTask(asyncio.Task[Any]):
    """A task whose hash is the order in which it was made, so that sets of tasks iterate the same way everywhere."""

    __slots__ = ("order",)

    def __init__(self, coroutine: Coroutine[Any, Any, Any], *, order: int, **kwargs: Any) -> None:
        self.order = order
        super().__init__(coroutine, **kwargs)

    def __hash__(self) -> int:
        return self.order

    def __eq__(self, other: object) -> bool:
        return self is other


class WorkflowFuture(asyncio.Future[Any]):
    """A future whose hash is the order in which it was made, as with tasks."""

    __slots__ = ("order",)

    def __init__(self, loop: WorkflowLoop) -> None:
        super().__init__(loop=loop)
        loop.run.made += 1
        self.order = loop.run.made

    def __hash__(self) -> int:
        return self.order


class WorkflowLoop(asyncio.AbstractEventLoop):
    """See the module. `run` is the execution; it must be alive for any durable act."""

    __slots__ = ("generators", "ready", "run", "tasks", "timers")

    def __init__(self, run: Run) -> None:
        self.run: Run = run
        self.ready: deque[Handle] = deque()
        self.tasks: dict[asyncio.Task[Any], None] = {}
        self.timers: dict[int, Timer] = {}
        self.generators = Generators()

    # --- running ----------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Run what is ready, and what that makes ready, until nothing is."""
        ready = self.ready
        if not ready:
            return
        outer = _get_running_loop()
        outer_hooks = sys.get_asyncgen_hooks()
        _set_running_loop(self)
        sys.set_asyncgen_hooks(self.generators.hold, drop)
        try:
            for _ in range(SPIN_LIMIT):
                if not ready:
                    return
                handle = ready.popleft()
                if not handle._cancelled:
                    try:
                        handle._context.run(handle._callback, *handle._args)
                    except SystemExit:  # the task that raised it has it too, and fails with it
                        continue
                    except Evicted:  # of a bare callback of code that was refused something before
                        continue
                    except NonDeterminismError:
                        raise
                    except Exception as error:  # of a bare callback: said and passed over, as asyncio does
                        self.call_exception_handler({"message": "a callback failed", "exception": error})
        finally:
            sys.set_asyncgen_hooks(*outer_hooks)
            _set_running_loop(outer)
        raise NonDeterminismError(
            f"the workflow ran {SPIN_LIMIT:,} callbacks without waiting for anything durable",
            hint="a loop such as `while …: await asyncio.sleep(0)` never ends here; wait for an event or a timer",
        )

    def call_soon(  # type: ignore[override]  # Any in place of type variables
        self, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = Handle(callback, args, self, context)
        self.ready.append(handle)
        return handle

    def time(self) -> float:
        """Give the instant of the event that is being applied, in seconds since 1970."""
        return self.run.now_us / 1e6

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return _get_running_loop() is self

    def is_closed(self) -> bool:
        return self.run.dead

    # --- timers -----------------------------------------------------------------------------------------------------

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._start_timer(self.run.now_us + _us(delay), callback, args, context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., Any], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self._start_timer(_us(when), callback, args, context)

    def _start_timer(
        self, due_us: int, callback: Callable[..., Any], args: tuple[Any, ...], context: contextvars.Context | None
    ) -> Timer:
        due_us = min(max(due_us, self.run.now_us), LATEST_US)
        timer = Timer(due_us / 1e6, callback, args, self, context)
        timer.due_us = due_us
        timer.seq = self.run.start_timer(due_us)
        self.timers[timer.seq] = timer
        return timer

    def fire(self, seq: int) -> None:
        """Make the callback of the timer that event `seq` started ready. A cancelled one is ignored."""
        timer = self.timers.pop(seq, None)
        if timer is not None:
            timer.seq = None
            self.ready.append(Handle(timer._callback, tuple(timer._args), self, timer._context))

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if isinstance(handle, Timer) and handle.seq is not None and self.timers.pop(handle.seq, None) is not None:
            self.run.cancel_timer(handle.seq)
            handle.seq = None

    # --- futures and tasks ------------------------------------------------------------------------------------------

    def create_future(self) -> asyncio.Future[Any]:
        return WorkflowFuture(self)

    def create_task(
        self,
        coro: Generator[Any, None, Any] | Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
        **kwargs: Any,
    ) -> asyncio.Task[Any]:
        run = self.run
        if run.dead:
            if asyncio.iscoroutine(coro):
                coro.close()
            run.refuse()
        coroutine = _await(coro) if isinstance(coro, Call) else coro
        run.made += 1
        task = WorkflowTask(
            coroutine,  # type: ignore[arg-type]
            order=run.made,
            loop=self,
            name=f"Task-{run.made}" if name is None else str(name),
            context=context,
        )
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # eviction drops pending tasks
        self.tasks[task] = None
        task.add_done_callback(self.tasks.pop)
        return task

    def run_in_executor(  # type: ignore[override]
        self, executor: Any, func: Any, *args: Any
    ) -> asyncio.Future[Any]:
        """Take `asyncio.to_thread(activity, …)` of a `def` activity; refuse anything else."""
        if isinstance(func, functools.partial) and not args and func.args:
            submit = getattr(func.args[0], "submit", None)
            if getattr(func.args[0], "__perdure_kind__", "") == "activity" and submit is not None:
                call: asyncio.Future[Any] = submit(*func.args[1:], **func.keywords)
                return call
        raise _refusal(self.run, "running a plain function in a thread or process")

    def get_exception_handler(self) -> None:
        return None

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.run.dead and self.run.recorded is None:  # in replay it was said before
            logger.error(
                "in %s: %s", self.run.execution_id, context.get("message", ""), exc_info=context.get("exception")
            )

    default_exception_handler = call_exception_handler

    async def shutdown_asyncgens(self) -> None:
        return None


async def _await(call: Call[Any]) -> Any:
    return await call


def _us(seconds: float) -> int:
    if seconds != seconds:
        raise ValueError("a timer needs a number of seconds, not nan")
    return LATEST_US if seconds * 1e6 >= LATEST_US else round(seconds * 1e6)


def _refusal(run: Run, what: str) -> NonDeterminismError:
    hint = "put it into an @activity and call that from the workflow"
    return run.refused(NonDeterminismError(f"{what} cannot be durable in a workflow", hint=hint))


def _refused(name: str) -> Callable[..., NoReturn]:
    def method(self: WorkflowLoop, *args: Any, **kwargs: Any) -> NoReturn:
        raise _refusal(self.run, f"`loop.{name}`")

    method.__name__ = name
    return method


# connect, listen, watch, spawn, … : each of asyncio's other methods raises the error that names the activity way
for _name in dir(asyncio.AbstractEventLoop):
    if not _name.startswith("_") and _name not in vars(WorkflowLoop):
        setattr(WorkflowLoop, _name, _refused(_name))
del _name
WorkflowLoop.__abstractmethods__ = frozenset()  # type: ignore[attr-defined]


def current_run() -> Run | None:
    """Give the execution whose code is calling; None outside a workflow."""
    loop = _get_running_loop()
    return loop.run if type(loop) is WorkflowLoop else None


def _next_order(loop: object) -> int | None:
    """Number what is made on a workflow's loop; None elsewhere."""
    if type(loop) is not WorkflowLoop:
        return None
    loop.run.made += 1
    return loop.run.made


ordered.install(_next_order)
