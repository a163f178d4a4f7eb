"""A simulated environment: the real engine on a temporary file, in virtual time, with fakes, crashes and restarts.

    with Environment(workflows=[fulfil]) as env:
        env.fake(charge, returns="ch_1")
        env.signal(approved, True, to="order-1", after_s=86_400)
        execution = env.start(fulfil, order, id="order-1")
        assert execution.result() == "shipped"

1. Time passes in `result`, `advance`, `run_until` and `run_until_idle` only, and at once. Everything else runs on
   until all rests at this instant.
2. The world outside (starts, signals, cancels) speaks through the file and is not hurt by a crash.
3. The same program with the same seed gives the same ids, the same order and the same instants.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

from perdure.activity import Activity
from perdure.store import Filter
from perdure.testing.calls import ActivityCall
from perdure.testing.execution import SimulatedExecution
from perdure.testing.fakes import MISSING, Stuck, make_fake
from perdure.testing.obstacles import obstacles
from perdure.testing.simulation import Simulation
from perdure.testing.timeline import timeline
from perdure.types import Conflict, ExecutionInfo, Status
from perdure.workflow import Signal, Workflow

R = TypeVar("R")
T = TypeVar("T")
EVERYTHING = 1_000_000


class Environment(Simulation):
    """See the module. Use it in a `with` block.

    `database` is a file to work on; without one it is temporary. `real` names the activities that may run themselves,
    True means all; transactional ones may, since they touch that file only. `strict` makes code that is not
    deterministic an error. `hot=0` evicts every execution as soon as it waits, so that each step replays its history.
    `seed` decides the jitter of retries and, with `shuffle`, the order in which activities end. `start_at` is where
    virtual time begins. No call may lead to more than `max_commits` transactions.
    """

    # --- activities -------------------------------------------------------------------------------------------------

    def fake(
        self,
        activity: Activity[..., Any, Any],
        function: Callable[..., Any] | None = None,
        /,
        *,
        returns: Any = MISSING,
        raises: BaseException | type[BaseException] | None = None,
        outcomes: Iterable[Any] | None = None,
        delay_s: float = 0.0,
    ) -> None:
        """Let `activity` do something else from now on.

        One of: `function`, called with the activity's arguments (`async def` or `def`); `returns` a value; `raises` an
        exception; `outcomes`, one for each attempt in turn, each a value, an exception or a function. Without any it
        returns None. It takes `delay_s` virtual seconds. Retries, time limits and type checks are those of the
        activity; `current_attempt()` works in the function.
        """
        if not isinstance(activity, Activity):
            raise TypeError(f"fake takes an activity, not {activity!r}")
        fake = make_fake(activity, function, returns, raises, outcomes, delay_s)
        self._supervisor.stage.fakes[activity.fn] = fake

    def calls(self, activity: Activity[..., Any, Any] | None = None) -> list[ActivityCall]:
        """Give the attempts so far, of one activity or of all, in the order in which they began."""
        calls = self._supervisor.stage.calls
        return [call for fn, call in calls if activity is None or fn is activity.fn]

    # --- executions -------------------------------------------------------------------------------------------------

    def start(
        self,
        workflow: Workflow[..., Any, R],
        *args: Any,
        id: str | None = None,
        on_conflict: Conflict | str = Conflict.JOIN,
        timeout_s: float | None = None,
        **kwargs: Any,
    ) -> SimulatedExecution[R]:
        """Start an execution; see `Client.start`. An id that is made up is `execution-1`, `execution-2`, …"""
        if isinstance(workflow, Workflow):
            self._registry.get(workflow.name)
        options: dict[str, Any] = {"id": id, "on_conflict": on_conflict, "timeout_s": timeout_s}
        started = self._do(self._opened().start(workflow, *args, **options, **kwargs))
        return SimulatedExecution(started, self._do, self)

    def execution(self, id: str, workflow: Workflow[..., Any, R] | None = None) -> SimulatedExecution[R]:
        """Give a handle by id, also of a child. With `workflow`, the result is decoded by its annotation."""
        return SimulatedExecution(self._opened().execution(id, workflow), self._do, self)

    def list(self, filter: Filter | None = None) -> Sequence[ExecutionInfo]:
        """List executions, newest first."""
        return self._do(self._opened().list(filter))

    def wait(self, id: str, timeout_s: float | None = None) -> None:
        """Let time pass until an execution has ended. Raises `Stuck` or `TimeoutError`; see
        `SimulatedExecution.result`."""
        store = self._opened().store

        def ended() -> bool:
            row = store.find(id)
            return row is not None and row.status.closed and row.status is not Status.CONTINUED

        if self._supervisor.drive(ended, timeout_s):
            return
        row = store.find(id)
        standing = "does not exist" if row is None else obstacles(store, self._registry, row)
        if timeout_s is not None:
            raise TimeoutError(f"execution {id} {standing}, after {timeout_s:g} virtual seconds")
        raise Stuck(f"execution {id} can never end: it {standing}", hint=self._supervisor.hint())

    def timeline(self, id: str | None = None) -> str:
        """Give histories as a text for people: all runs of an execution, or all executions, oldest first."""
        if id is None:
            infos = [*reversed(self.list(Filter(limit=EVERYTHING)))]
        else:
            newest, client = self.execution(id).info(), self._opened()
            infos = [self._do(client.describe(id, run)) for run in range(1, newest.run)] + [newest]
        marks = self._supervisor.marks
        return "\n\n".join(timeline(info, self.execution(info.id).history(run=info.run), marks) for info in infos)

    # --- the world outside ------------------------------------------------------------------------------------------

    def signal(
        self, signal: Signal[T] | str, value: Any = None, *, to: str | SimulatedExecution[Any], after_s: float = 0.0
    ) -> None:
        """Send a signal, now or after so many virtual seconds."""
        self.after(after_s, lambda: self.execution(_id(to)).signal(signal, value))

    def cancel(self, id: str | SimulatedExecution[Any], reason: str | None = None, *, after_s: float = 0.0) -> None:
        """Cancel an execution, now or after so many virtual seconds."""
        self.after(after_s, lambda: self.execution(_id(id)).cancel(reason))

    def after(self, delay_s: float, action: Callable[[], Any]) -> None:
        """Have `action` called when so many virtual seconds have passed; at once for 0. It may do whatever a test may
        do, except let time pass. What it raises ends the call that let time pass."""
        if delay_s > 0:
            self._supervisor.agenda.plan(self.clock.monotonic() + delay_s, action)
        else:
            action()

    def complete(self, token: str, value: Any = None) -> None:
        """Complete an activity that said `finish_later()`; see `Client.complete`."""
        self._do(self._opened().complete(token, value))

    def fail(self, token: str, error: BaseException) -> None:
        """Fail an activity that said `finish_later()`; see `Client.fail`."""
        self._do(self._opened().fail(token, error))


def _id(execution: str | SimulatedExecution[Any]) -> str:
    return execution if isinstance(execution, str) else execution.id
