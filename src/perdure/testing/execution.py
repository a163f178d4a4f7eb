"""The handle of one execution in a simulated environment."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, Generic, Protocol, TypeVar

from perdure.blocking import BlockingExecution
from perdure.client import Execution
from perdure.types import Status

R = TypeVar("R")


class World(Protocol):
    """What a handle needs of its environment."""

    def wait(self, id: str, timeout_s: float | None) -> None: ...

    def timeline(self, id: str | None = None) -> str: ...


class SimulatedExecution(BlockingExecution[R], Generic[R]):
    """A handle: `signal`, `cancel`, `pause`, `info`, `state`, `history` and the others of `Execution`, without async.

    Each runs the environment on until everything rests; only `result` lets time pass.
    """

    def __init__(
        self, execution: Execution[R], call: Callable[[Coroutine[Any, Any, Any]], Any], environment: World
    ) -> None:
        super().__init__(execution, call)
        self._environment = environment

    def result(self, timeout_s: float | None = None) -> R:
        """Let time pass until it has ended, and give the result.

        Raises what the workflow raised, `ExecutionCancelled`, `ExecutionTerminated`; `Stuck` when it can never end;
        `TimeoutError` when it has not ended after `timeout_s` virtual seconds.
        """
        self._environment.wait(self.id, timeout_s)
        return super().result()

    @property
    def status(self) -> Status:
        return self.info().status

    def timeline(self) -> str:
        """Give its history as a text for people: when, what, with what."""
        return self._environment.timeline(self.id)

    def __repr__(self) -> str:
        return f"<simulated execution {self.id}>"
