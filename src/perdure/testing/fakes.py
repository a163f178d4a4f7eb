"""Fakes: what an activity does in a test in place of its own code."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from perdure.activity import Activity
from perdure.errors import PerdureError


class SimulationError(PerdureError, AssertionError):
    """A test asks for something that its environment cannot do, or that can never be."""


class Stuck(SimulationError):
    """What a test waits for can never come: nothing that is planned leads to it."""


class Endless(SimulationError):
    """What a test waits for did not come within `max_commits` steps, though something went on happening."""


class Fake:
    """An activity's stand-in: a function of the activity's arguments, sync or async, and how long it takes."""

    def __init__(self, function: Callable[..., Any], delay_s: float = 0.0) -> None:
        if not delay_s >= 0:
            raise ValueError(f"delay_s must not be less than 0 seconds, not {delay_s!r}")
        self.function = function
        self.delay_s = delay_s

    async def run(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Give the outcome of one attempt, or raise it."""
        value = self.function(*args, **kwargs)
        return await value if inspect.isawaitable(value) else value


class _Missing:
    def __repr__(self) -> str:
        return "…"


MISSING = _Missing()
"""Stands for an argument that was not given, where None is a value."""


def make_fake(
    activity: Activity[..., Any, Any],
    function: Callable[..., Any] | None,
    returns: Any,
    raises: Any,
    outcomes: Iterable[Any] | None,
    delay_s: float,
) -> Fake:
    """Make a fake of what `Environment.fake` was given. Raises `TypeError` for more than one outcome."""
    given = (function is not None) + (returns is not MISSING) + (raises is not None) + (outcomes is not None)
    if given > 1:
        raise TypeError(f"fake({activity.name}): give one of a function, returns, raises and outcomes")
    if function is not None:
        if not callable(function):
            raise TypeError(f"fake({activity.name}): {function!r} is not a function; a value goes into returns=…")
        return Fake(function, delay_s)
    if outcomes is not None:
        return Fake(_one_by_one(activity.name, iter(outcomes)), delay_s)
    if raises is not None and not _is_exception(raises):
        raise TypeError(f"fake({activity.name}): raises takes an exception, not {raises!r}")
    outcome = raises if raises is not None else None if returns is MISSING else returns
    return Fake(lambda *args, **kwargs: _give(outcome, args, kwargs), delay_s)


def _one_by_one(name: str, outcomes: Iterator[Any]) -> Callable[..., Any]:
    taken = 0

    def next_outcome(*args: Any, **kwargs: Any) -> Any:
        nonlocal taken
        outcome = next(outcomes, MISSING)
        if outcome is MISSING:
            raise SimulationError(
                f"the fake of {name} has no outcome left for attempt {taken + 1}",
                hint="give it as many outcomes as it is attempted, retries included, or a function",
            )
        taken += 1
        return _give(outcome, args, kwargs)

    return next_outcome


def _give(outcome: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return a value, raise an exception, call a function."""
    if isinstance(outcome, BaseException):
        raise outcome.with_traceback(None)
    if _is_exception(outcome):
        raise outcome
    return outcome(*args, **kwargs) if callable(outcome) else outcome


def _is_exception(value: Any) -> bool:
    return isinstance(value, BaseException) or (isinstance(value, type) and issubclass(value, BaseException))
