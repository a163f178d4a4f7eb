"""Activities: the functions that touch the world. A workflow's call of one is recorded, retried and never repeated
once done.

Outside a workflow a decorated function is the plain function. How an attempt runs is the engine's business
(`engine/executor.py`, `engine/outcomes.py`); here is what the user writes: the decorator, its options, and what an
attempt can ask about itself.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable, Coroutine
from contextvars import ContextVar
from typing import Any, Generic, Literal, NoReturn, ParamSpec, Protocol, TypeVar, cast, overload

import msgspec

from perdure.codec import Arguments, Value
from perdure.errors import FinishLater, NonDeterminismError, PerdureError
from perdure.replay import Call, current_run
from perdure.replay.bridge import in_greenlet
from perdure.retry import Retry
from perdure.types import Durability

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

Executor = Literal["async", "thread", "process", "exec", "transaction"]


_LIMITS = ("timeout_s", "total_timeout_s", "start_timeout_s", "heartbeat_timeout_s")


class ActivityOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How one activity is run. Times are in seconds; None means no limit."""

    retry: Retry = Retry()
    timeout_s: float | None = None
    """One attempt, from its start."""
    total_timeout_s: float | None = None
    """The activity as a whole, from its schedule, all attempts and waits included."""
    start_timeout_s: float | None = None
    """From its schedule until its first attempt starts."""
    heartbeat_timeout_s: float | None = None
    """Between two heartbeats of an attempt."""
    durability: Durability = Durability.LOCAL
    """With `replicated` an attempt starts only once what led to it is in the replica."""
    executor: Executor = "async"
    command: tuple[str, ...] = ()
    """The program and its arguments, for `exec`."""

    def __post_init__(self) -> None:
        for name in _LIMITS:
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name} must be more than 0 seconds, not {limit!r}")


class Activity(Generic[P, T, R]):
    """A durable activity. `P` its parameters, `T` what calling it gives, `R` its result.

    In a workflow, `await charge(order)` of an `async def` activity and `charge(order)` of a `def` activity in a
    `def` workflow wait for the result; `charge.submit(order)` gives a `Call` in both. Elsewhere calling it calls
    the function.
    """

    __perdure_kind__ = "activity"
    # what asyncio.iscoroutinefunction looks for, set for `async def` activities
    _is_coroutine: object

    def __init__(self, fn: Callable[P, T], name: str | None, options: ActivityOptions) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name or fn.__name__
        self.is_async = inspect.iscoroutinefunction(fn)
        self.defaults = options
        where = f"activity {self.name}"
        self.arguments = Arguments(fn, where, skip_first=options.executor == "transaction")
        if self.is_async:
            self._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", True)

    @property
    def returns(self) -> Value:
        return self.arguments.result

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        run = current_run()
        if run is None:
            return self.fn(*args, **kwargs)
        call = run.start_activity(self, args, kwargs)
        if self.is_async:
            return call  # type: ignore[return-value]  # an awaitable where the signature says coroutine
        if not in_greenlet():
            error = NonDeterminismError(
                f"the `def` activity {self.name} was called directly in an `async def` workflow, which cannot block",
                hint=f"write `await {self.name}.submit(…)` or `await asyncio.to_thread({self.name}, …)`",
            )
            raise run.refused(error)
        return cast(T, call.result())  # T is R for a `def` activity

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Start the activity and give its `Call` without waiting. Only in a workflow."""
        run = current_run()
        if run is None:
            raise PerdureError(
                f"{self.name}.submit() works in a workflow only",
                hint=f"outside one, call {self.name}(…) itself: it is the plain function there",
            )
        return run.start_activity(self, args, kwargs)

    def options(self, **changes: Any) -> Activity[P, T, R]:
        """Give the same activity with other options (the fields of `ActivityOptions`), for one call or many."""
        other: Activity[P, T, R] = object.__new__(Activity)
        other.__dict__.update(self.__dict__)
        other.defaults = _changed(self.defaults, changes)
        return other

    def __repr__(self) -> str:
        return f"<activity {self.name}>"


def _changed(options: ActivityOptions, changes: dict[str, Any]) -> ActivityOptions:
    unknown = changes.keys() - {"retry", "durability", *_LIMITS}
    if unknown:
        raise TypeError(f"no such activity option: {', '.join(sorted(unknown))}")
    if "durability" in changes:
        changes["durability"] = Durability(changes["durability"])
    return msgspec.structs.replace(options, **changes)


class _Decorator(Protocol):
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Activity[P, R, R]: ...


class _TransactionDecorator(Protocol):
    def __call__(self, fn: Callable[..., R], /) -> Activity[..., R, R]: ...


@overload
def activity(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Activity[P, Coroutine[Any, Any, R], R]: ...
@overload
def activity(fn: Callable[P, R], /) -> Activity[P, R, R]: ...
@overload
def activity(
    *, transactional: Literal[True], name: str | None = ..., retry: Retry = ..., total_timeout_s: float | None = ...
) -> _TransactionDecorator: ...
@overload
def activity(
    *,
    name: str | None = ...,
    retry: Retry = ...,
    timeout_s: float | None = ...,
    total_timeout_s: float | None = ...,
    start_timeout_s: float | None = ...,
    heartbeat_timeout_s: float | None = ...,
    durability: Durability | str = ...,
    executor: Literal["thread", "process"] | None = ...,
    exec: tuple[str, ...] | list[str] | None = ...,
) -> _Decorator: ...
def activity(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    retry: Retry = Retry(),
    timeout_s: float | None = None,
    total_timeout_s: float | None = None,
    start_timeout_s: float | None = None,
    heartbeat_timeout_s: float | None = None,
    durability: Durability | str = Durability.LOCAL,
    executor: Literal["thread", "process"] | None = None,
    exec: tuple[str, ...] | list[str] | None = None,
    transactional: bool = False,
) -> Any:
    """Make a function an activity: what it does is retried until it is done, and done once it is in the log.

    An `async def` runs on the engine's loop, a `def` in a thread (`executor="process"`: in a process of its own pool).
    `exec=["prog", "arg"]` runs a program instead of the body: the arguments as a JSON object on its standard input,
    the result as JSON on its standard output. `transactional=True` passes a `Transaction` on the same file as first
    argument; what it writes commits together with its result, exactly once. With `durability="replicated"` it starts
    only once what led to it is in the replica: for what cannot be undone. Times are in seconds.
    """

    def decorate(fn: Callable[..., Any]) -> Activity[..., Any, Any]:
        options = ActivityOptions(
            retry=retry,
            timeout_s=timeout_s,
            total_timeout_s=total_timeout_s,
            start_timeout_s=start_timeout_s,
            heartbeat_timeout_s=heartbeat_timeout_s,
            durability=Durability(durability),
            executor=_executor(fn, executor, exec, transactional),
            command=tuple(exec or ()),
        )
        return Activity(fn, name, options)

    return decorate if fn is None else decorate(fn)


def _executor(fn: Callable[..., Any], executor: str | None, command: Any, transactional: bool) -> Executor:
    if not callable(fn):
        raise TypeError(f"@activity takes a function, not {fn!r}")
    asynchronous = inspect.iscoroutinefunction(fn)
    if sum((executor is not None, command is not None, transactional)) > 1:
        raise TypeError(f"activity {fn.__name__}: executor, exec and transactional exclude each other")
    if command is not None:
        if isinstance(command, str) or not command:
            raise TypeError(f'activity {fn.__name__}: exec is a list such as ["prog", "--flag"], not {command!r}')
        return "exec"
    if asynchronous and (transactional or executor is not None):
        what = "transactional" if transactional else f'executor="{executor}"'
        raise TypeError(f"activity {fn.__name__}: {what} needs a plain `def` function, not `async def`")
    if transactional:
        return "transaction"
    if executor not in (None, "thread", "process"):
        raise TypeError(f'activity {fn.__name__}: executor is "thread" or "process", not {executor!r}')
    return "async" if asynchronous else "process" if executor == "process" else "thread"


class Attempt(Protocol):
    """What a running attempt can ask about itself and say to the engine; `current_attempt()` gives it."""

    @property
    def execution_id(self) -> str: ...

    @property
    def activity(self) -> str: ...

    @property
    def number(self) -> int:
        """1 for the first."""

    @property
    def idempotency_key(self) -> str:
        """The same in every attempt of this call and in no other: pass it to services that remove duplicates."""

    @property
    def token(self) -> str:
        """Completes this attempt from outside, after `finish_later()`. A secret: who has it decides the result."""

    def heartbeat(self, details: Any = None) -> None:
        """Say that the attempt is alive; `details` (JSON) are there for the next attempt if this one fails."""

    @property
    def last_details(self) -> Any:
        """The details of the last heartbeat of the attempt before; None without."""

    @property
    def cancelled(self) -> bool:
        """Say whether the attempt should stop: cancelled, timed out, or the engine is closing. For `def` activities."""

    def finish_later(self) -> NoReturn:
        """End the function but leave the attempt open until `client.complete(token, value)` or `client.fail(token,
        error)`."""


attempt_var: ContextVar[Attempt] = ContextVar("perdure_attempt")


def current_attempt() -> Attempt:
    """Give the attempt that is running. Raises `PerdureError` outside an activity that the engine runs."""
    attempt = attempt_var.get(None)
    if attempt is None:
        raise PerdureError(
            "no activity attempt is running here",
            hint="current_attempt() works inside an activity that a workflow called",
        )
    return attempt


__all__ = ["Activity", "ActivityOptions", "Attempt", "FinishLater", "activity", "attempt_var", "current_attempt"]
