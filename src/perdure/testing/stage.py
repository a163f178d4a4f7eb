"""Where activities play in a simulated environment: each attempt goes to a fake, or to the activity itself if that is
allowed.

The engine's own executor runs them, so time limits, heartbeats, type checks and retries are the real ones. Only the
function is another one, and it always runs on the loop: a `def` activity, one in a process or a transactional one
takes no thread.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Callable, Collection, Coroutine
from typing import Any

import msgspec

from perdure.activity import Activity
from perdure.engine.attempt import Attempt
from perdure.engine.executor import Executor
from perdure.testing.calls import ActivityCall, Fault, Outcome
from perdure.testing.clock import VirtualClock, no_loop_around
from perdure.testing.commits import Crash
from perdure.testing.fakes import Fake, SimulationError
from perdure.types import instant

SPREAD_S = (0.0, 0.0, 0.001, 0.002, 0.005)
"""What shuffled attempts wait before they begin: short, and often the same, so that some end together."""
_LIMITS = ("timeout_s", "total_timeout_s", "start_timeout_s", "heartbeat_timeout_s")


class Stage:
    """See the module. `real` names the activities that may run themselves; true means all. `fail` takes an error that
    ends the test."""

    def __init__(
        self, clock: VirtualClock, real: bool | Collection[Any], draw: random.Random, fail: Callable[[Exception], None]
    ) -> None:
        self.clock = clock
        self.all_real = real is True
        self.real = set() if isinstance(real, bool) else {activity.fn for activity in real}
        self.draw = draw
        self.fail = fail
        self.shuffle = False
        self.fakes: dict[Any, Fake] = {}
        """By the function of the activity, so that `activity.options(…)` has the same fake."""
        self.calls: list[tuple[Any, ActivityCall]] = []
        self.on_attempt: Callable[[ActivityCall], Fault | None] | None = None
        self.on_effect: Callable[[ActivityCall], Coroutine[Any, Any, None]] | None = None

    # --- casting ----------------------------------------------------------------------------------------------------

    def cast(self, attempt: Attempt) -> Activity[..., Any, Any] | None:
        """Give what to run in place of an attempt's activity; None if there is nothing, which ends the test."""
        activity = attempt.activity_def
        if isinstance(activity.fn, Part):  # the attempt before this one was cast already
            activity = activity.fn.activity
        fake, own = self.fakes.get(activity.fn), activity.defaults.executor
        if fake is None and not (self.all_real or own == "transaction" or activity.fn in self.real):
            self.fail(_missing(attempt))
            return None
        part = copy.copy(activity)
        if fake is not None:
            part.fn, part.defaults = Part(self, activity, attempt, fake), _on_loop(activity)
        elif own == "transaction":
            part.fn = InTransaction(self, activity, attempt, _itself(activity))
        elif own == "exec":
            part.fn = Part(self, activity, attempt, _itself(activity))
        else:
            part.fn, part.defaults = Part(self, activity, attempt, _itself(activity)), _on_loop(activity)
        return part

    # --- playing ----------------------------------------------------------------------------------------------------

    def begin(self, part: Part, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[ActivityCall, Fault]:
        """Record an attempt, and ask what is to go wrong with it."""
        attempt = part.attempt
        call = ActivityCall(
            activity=part.activity.name,
            args=args,
            kwargs=kwargs,
            execution_id=attempt.execution_id,
            attempt=attempt.number,
            idempotency_key=attempt.idempotency_key,
            at=instant(self.clock.now_us()),
            options=part.activity.defaults,
        )
        self.calls.append((part.activity.fn, call))
        fault = self.on_attempt(call) if self.on_attempt is not None else None
        return call, fault or NO_FAULT

    def end(self, call: ActivityCall, outcome: Outcome, result: Any = None, error: BaseException | None = None) -> None:
        if call.outcome != "running":
            return  # its process crashed; this is only its code being cleared away
        call.outcome, call.result, call.error = outcome, result, error
        if isinstance(error, SimulationError):
            self.fail(error)

    def interrupt(self) -> None:
        """Note that the process of all running attempts died."""
        for _, call in self.calls:
            self.end(call, "interrupted")


class Part:
    """The function of an attempt that was cast."""

    def __init__(self, stage: Stage, activity: Activity[..., Any, Any], attempt: Attempt, fake: Fake) -> None:
        self.stage = stage
        self.activity = activity
        self.attempt = attempt
        self.fake = fake

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        call, fault = self.stage.begin(self, args, kwargs)
        try:
            result = await self._outcome(call, fault)
        except asyncio.CancelledError:
            self.stage.end(call, "cancelled")
            raise
        except Crash:  # its own process
            raise
        except BaseException as error:
            self.stage.end(call, "raised", error=error)
            raise
        self.stage.end(call, "returned", result)
        return result

    async def _outcome(self, call: ActivityCall, fault: Fault) -> Any:
        stage = self.stage
        delay_s = self.fake.delay_s + fault.delay_s + (stage.draw.choice(SPREAD_S) if stage.shuffle else 0.0)
        if delay_s:
            await asyncio.sleep(delay_s)
        if fault.when == "before":
            await _go_wrong(fault)
        value = await self._effect(call)
        if fault.twice:
            value = await self._effect(call)
        if fault.when == "after":
            await _go_wrong(fault)
        return value

    async def _effect(self, call: ActivityCall) -> Any:
        value = await self.fake.run(call.args, call.kwargs)
        call.effects += 1
        if self.stage.on_effect is not None:
            await self.stage.on_effect(call)
        return value


class InTransaction(Part):
    """The function of a transactional activity that runs itself, inside the engine's commit. There it cannot hang, and
    whatever goes wrong undoes what it wrote."""

    def __call__(self, transaction: Any, *args: Any, **kwargs: Any) -> Any:
        call, fault = self.stage.begin(self, args, kwargs)
        try:
            if fault.when == "before" and fault.error is not None:
                raise fault.error.with_traceback(None)
            result = self.activity.fn(transaction, *args, **kwargs)
            if fault.when == "after" and fault.error is not None:
                raise fault.error.with_traceback(None)
        except Crash:
            raise
        except BaseException as error:
            self.stage.end(call, "raised", error=error)
            raise
        self.stage.end(call, "returned", result)
        return result


class SimulatedExecutor(Executor):
    """The engine's executor, with the activities that a `Stage` gives it."""

    stage: Stage
    on_beat: Callable[[], None]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._programs: dict[Attempt, ActivityCall] = {}

    def start(self, attempt: Attempt) -> None:
        part = self.stage.cast(attempt)
        if part is not None:
            attempt.activity_def = part
            super().start(attempt)

    async def _run_program(self, attempt: Attempt, number: int) -> None:
        part: Any = attempt.activity_def.fn
        call, _ = self.stage.begin(part, *attempt.activity_def.arguments.call_args(attempt.data))
        self._programs[attempt] = call
        await super()._run_program(attempt, number)

    def _done(self, attempt: Attempt, number: int, outcome: str | BaseException, log: str | None = None) -> None:
        call = self._programs.pop(attempt, None)
        if call is not None and isinstance(outcome, str):
            call.effects += 1
            self.stage.end(call, "returned", msgspec.json.decode(outcome))
        elif call is not None and isinstance(outcome, asyncio.CancelledError):
            self.stage.end(call, "cancelled")
        elif call is not None and isinstance(outcome, BaseException):
            self.stage.end(call, "raised", error=outcome)
        super()._done(attempt, number, outcome, log)

    def _heartbeat(self, attempt: Attempt, details: str) -> None:
        super()._heartbeat(attempt, details)
        self.on_beat()


NO_FAULT = Fault()


def _on_loop(activity: Activity[..., Any, Any]) -> Any:
    """Give the options of an activity that runs on the loop, with the limits that it has elsewhere."""
    options = activity.defaults
    limits = {name: getattr(options, name) for name in _LIMITS}
    return options if options.executor == "async" else type(options)(retry=options.retry, **limits)


def _itself(activity: Activity[..., Any, Any]) -> Fake:
    if activity.is_async:
        return Fake(activity.fn)

    def inline(*args: Any, **kwargs: Any) -> Any:
        with no_loop_around():  # in a thread there would be none: it may call asyncio.run()
            return activity.fn(*args, **kwargs)

    return Fake(inline)


async def _go_wrong(fault: Fault) -> None:
    if fault.error is not None:
        raise fault.error.with_traceback(None)
    await asyncio.get_running_loop().create_future()


def _missing(attempt: Attempt) -> SimulationError:
    name = attempt.activity
    return SimulationError(
        f"activity {name} of execution {attempt.execution_id} has no fake, and may not run for real",
        hint=f"env.fake({name}, returns=…), or let it run: Environment(…, real=[{name}])",
    )
