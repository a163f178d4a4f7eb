"""Workflows: ordinary functions whose progress is durable, and what their code can say beside asyncio.

Outside an engine a decorated function is the plain function, and `now`, `random`, `uuid4` and `sleep` are the
ordinary ones, so that unit tests call workflow code directly.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import inspect
import random as _random
import time as _time
import uuid as _uuid
from collections.abc import Callable, Coroutine, Iterator, MutableMapping
from datetime import UTC, datetime
from typing import Any, Generic, Literal, NoReturn, ParamSpec, TypeVar, overload

import msgspec

from perdure.codec import Arguments, Value
from perdure.errors import ContinueAsNew, NonDeterminismError, PerdureError
from perdure.guard import static
from perdure.replay import Call, Run, current_run
from perdure.replay.bridge import in_greenlet, wait_in_greenlet
from perdure.types import Durability, instant

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

OnParentEnd = Literal["cancel", "abandon"]


class Workflow(Generic[P, T, R]):
    """A durable workflow. `P` its parameters, `T` what calling it gives, `R` its result.

    Called in another workflow it is a child; `.submit(…)` gives the child's `Call` without waiting. `id`,
    `timeout_s` and `on_parent_end` are the options of one start.
    """

    __perdure_kind__ = "workflow"
    # what asyncio.iscoroutinefunction looks for, set for `async def` workflows
    _is_coroutine: object

    def __init__(self, fn: Callable[P, T], name: str | None, strict: bool, durability: Durability) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.name = name or fn.__name__
        self.is_async = inspect.iscoroutinefunction(fn)
        self.strict = strict
        self.durability = durability
        """With `replicated`, whoever starts it or asks for its result is answered, and its activities start, only once
        what led to that is in the replica."""
        self.reported: frozenset[static.Finding] = frozenset()
        """What the static check found at decoration; the engine looks again, when all helpers are defined."""
        self.id: str | None = None
        self.timeout_s: float | None = None
        self.on_parent_end: OnParentEnd = "cancel"
        self.arguments = Arguments(fn, f"workflow {self.name}")
        if self.is_async:
            self._is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", True)

    @property
    def returns(self) -> Value:
        return self.arguments.result

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        run = current_run()
        if run is None:
            return self.fn(*args, **kwargs)
        if not self.is_async and not in_greenlet():
            error = NonDeterminismError(
                f"the `def` workflow {self.name} was called directly in an `async def` workflow, which cannot block",
                hint=f"write `await {self.name}.submit(…)`",
            )
            raise run.refused(error)
        call = run.start_child(self, args, kwargs)
        return call if self.is_async else call.result()  # type: ignore[return-value]  # see Activity.__call__

    def submit(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Start it as a child and give its `Call` without waiting. Only in a workflow."""
        run = current_run()
        if run is None:
            raise PerdureError(
                f"{self.name}.submit() works in a workflow only", hint=f"use engine.start({self.name}, …)"
            )
        return run.start_child(self, args, kwargs)

    def options(
        self,
        *,
        id: str | None = None,
        timeout_s: float | None = None,
        on_parent_end: OnParentEnd | None = None,
    ) -> Workflow[P, T, R]:
        """Give the same workflow with options for one start: its id, its time limit in seconds, and, as a child,
        whether it is cancelled when its parent ends (`cancel`, as without) or goes on alone (`abandon`). Those left
        out stay as they are."""
        if timeout_s is not None and not timeout_s > 0:
            raise ValueError(f"timeout_s must be more than 0 seconds, not {timeout_s!r}")
        if on_parent_end not in (None, "cancel", "abandon"):
            raise ValueError(f'on_parent_end is "cancel" or "abandon", not {on_parent_end!r}')
        other = copy.copy(self)
        other.id = self.id if id is None else id
        other.timeout_s = self.timeout_s if timeout_s is None else timeout_s
        other.on_parent_end = on_parent_end or self.on_parent_end
        return other

    def __repr__(self) -> str:
        return f"<workflow {self.name}>"


@overload
def workflow(fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, Coroutine[Any, Any, R], R]: ...
@overload
def workflow(fn: Callable[P, R], /) -> Workflow[P, R, R]: ...
@overload
def workflow(*, name: str | None = ..., strict: bool = ..., durability: Durability | str = ...) -> _Decorator: ...
def workflow(
    fn: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    strict: bool = False,
    durability: Durability | str = Durability.LOCAL,
) -> Any:
    """Make a function a workflow: its progress is recorded and it goes on after any crash.

    Its code must be deterministic; calls that are not are warned of here, or refused with `strict=True`. With
    `durability="replicated"` callers are answered, and its activities start, only once what led to that is in the
    replica.
    """

    def decorate(fn: Callable[..., Any]) -> Workflow[..., Any, Any]:
        if not inspect.isfunction(fn) or inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
            raise TypeError(f"@workflow takes a plain `def` or `async def` function, not {fn!r}")
        found = static.inspect_function(fn)
        static.warn(found, strict)
        made: Workflow[..., Any, Any] = Workflow(fn, name, strict, Durability(durability))
        made.reported = frozenset(found)
        return made

    return decorate if fn is None else decorate(fn)


class _Decorator:
    @overload
    def __call__(self, fn: Callable[P, Coroutine[Any, Any, R]], /) -> Workflow[P, Coroutine[Any, Any, R], R]: ...
    @overload
    def __call__(self, fn: Callable[P, R], /) -> Workflow[P, R, R]: ...
    def __call__(self, fn: Any, /) -> Any: ...


class Signal(Generic[T]):
    """A named, typed message to an execution. Values wait, in order, until they are received; none is lost.

    `approved = Signal("approved", bool)`; in the workflow `await approved.receive()` (in a `def` one
    `approved.receive().result()`).
    """

    @overload
    def __init__(self: Signal[Any], name: str) -> None: ...
    @overload
    def __init__(self, name: str, type: type[T]) -> None: ...
    @overload
    def __init__(self: Signal[Any], name: str, type: object) -> None: ...
    def __init__(self, name: str, type: Any = Any) -> None:
        self.name = name
        self.value = Value(type, f"signal {name}")

    def receive(self) -> Call[T]:
        """Receive the next value, waiting for it if need be."""
        return _run("Signal.receive()").receive(self)

    def send(self, execution_id: str, value: T) -> None:
        """Send a value from this workflow to another execution. An unknown or closed one is ignored, with a warning."""
        _run("Signal.send()").send_signal(self.name, execution_id, self.value.check(value))

    def __repr__(self) -> str:
        return f"<signal {self.name}>"


class State(MutableMapping[str, Any]):
    """The running execution's readable state: a small mapping of JSON values that anyone can read while it runs."""

    def __getitem__(self, key: str) -> Any:
        return msgspec.json.decode(_run("state").state[key])

    def __setitem__(self, key: str, value: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"a state key is a string, not {key!r}")
        _run("state").set_state(key, _ANY.check(value))

    def __delitem__(self, key: str) -> None:
        run = _run("state")
        if key not in run.state:
            raise KeyError(key)
        run.set_state(key, None)

    def __iter__(self) -> Iterator[str]:
        return iter(list(_run("state").state))

    def __len__(self) -> int:
        return len(_run("state").state)


state = State()
_ANY = Value(Any, "state")


def now() -> datetime:
    """Give the current instant, aware, UTC. In a workflow: that of the event that its code is answering."""
    run = current_run()
    return datetime.now(UTC) if run is None else instant(run.now_us)


def random() -> _random.Random:
    """Give a random generator: in a workflow its own, which draws the same after a crash."""
    run = current_run()
    return _random.Random() if run is None else run.random


def uuid4() -> _uuid.UUID:
    """Give a random UUID, in a workflow the same one after a crash."""
    run = current_run()
    return _uuid.uuid4() if run is None else run.uuid4()


def sleep(delay_s: float) -> None:
    """Sleep in a `def` workflow, durably and without holding a thread. In `async def` code use `asyncio.sleep`."""
    run = current_run()
    if run is None:
        _time.sleep(delay_s)
    elif in_greenlet():
        wait_in_greenlet(asyncio.sleep(delay_s))
    else:
        hint = "write `await asyncio.sleep(…)`"
        raise run.refused(NonDeterminismError("perdure.sleep() would block this workflow", hint=hint))


def patched(patch_id: str) -> bool:
    """Say whether this execution runs the code changed under `patch_id`.

    True for executions that reach this line for the first time with the new code, False for those that went past it
    before the change. The first answer holds for the whole run.
    """
    run = current_run()
    return True if run is None else run.patched(patch_id)


def continue_as_new(*args: Any, **kwargs: Any) -> NoReturn:
    """End this run and start the next one under the same id, with new arguments and an empty history.

    The readable state and signals that were not received go along. For loops that live for months.
    """
    raise ContinueAsNew(args, kwargs)


def execution_id() -> str:
    """Give the id of the execution whose code is calling."""
    return _run("execution_id()").execution_id


def _run(what: str) -> Run:
    run = current_run()
    if run is None:
        raise PerdureError(f"{what} works in a workflow only", hint="outside one, use the execution's handle")
    return run
