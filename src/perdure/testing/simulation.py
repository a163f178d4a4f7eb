"""The simulated process and its time: opening, crashing, restarting, letting time pass."""

from __future__ import annotations

import random
import shutil
import tempfile
from collections.abc import Callable, Collection, Coroutine, Iterable
from datetime import datetime
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self, TypeVar

from perdure.activity import Activity
from perdure.engine.registry import Registry
from perdure.errors import EngineClosed
from perdure.testing.calls import ActivityCall, Fault
from perdure.testing.clock import START, VirtualClock, VirtualLoop
from perdure.testing.commits import Commit, Trigger, kind_of, name_of
from perdure.testing.fakes import SimulationError, Stuck
from perdure.testing.machine import SimulatedClient
from perdure.testing.supervisor import Supervisor
from perdure.types import instant
from perdure.workflow import Workflow

T = TypeVar("T")


class Simulation:
    """What an `Environment` stands on; see there for the parameters."""

    def __init__(
        self,
        workflows: Iterable[Workflow[..., Any, Any] | ModuleType] | Registry,
        *,
        database: str | Path | None = None,
        real: bool | Collection[Activity[..., Any, Any]] = (),
        seed: int = 0,
        shuffle: bool = False,
        strict: bool = True,
        hot: int = 10_000,
        start_at: datetime = START,
        max_commits: int = 20_000,
    ) -> None:
        self.seed = seed
        self.strict = strict
        self.clock = VirtualClock(start_at)
        self._registry = workflows if isinstance(workflows, Registry) else Registry(workflows, strict)
        self._database = None if database is None else Path(database)
        self._folder: Path | None = None
        self._supervisor = Supervisor(self.clock, real, random.Random(seed), shuffle, hot, max_commits)
        self._client: SimulatedClient | None = None
        self._world: VirtualLoop | None = None

    # --- opening and closing ----------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        if self._world is not None:
            raise SimulationError("this environment was opened before", hint="make another one")
        self._world = VirtualLoop(self.clock)
        if self._database is None:
            self._folder = Path(tempfile.mkdtemp(prefix="perdure-test-"))
        try:
            self._supervisor.open(self.path, self._registry)
            client = SimulatedClient(self.path, synchronous="normal", now=self.clock.now_us)
            client.watch = self._supervisor.watch
            self._world.run_until_complete(client.__aenter__())
            self._client = client
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop in order, and remove the temporary file. Twice is as good as once."""
        client, self._client = self._client, None
        try:
            self._supervisor.close()
        finally:
            if self._world is not None:
                if client is not None:
                    self._world.run_until_complete(client.__aexit__(None, None, None))
                self._world.close()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def path(self) -> Path:
        """The database."""
        if self._database is not None:
            return self._database
        if self._folder is None:
            raise _closed()
        return self._folder / "test.db"

    def _do(self, request: Coroutine[Any, Any, T]) -> T:
        """Have the world outside do something, then let the process run until it rests."""
        if self._client is None or self._world is None:
            request.close()
            raise _closed()
        result: T = self._world.run_until_complete(request)
        self._supervisor.look()
        return result

    def _opened(self) -> SimulatedClient:
        if self._client is None:
            raise _closed()
        return self._client

    # --- the process ------------------------------------------------------------------------------------------------

    def crash(self, *, restart_after_s: float | None = None) -> None:
        """Kill the process that runs the workflows, as `kill -9` does. Also inside a fake.

        It stays down until `restart()`, or for `restart_after_s` virtual seconds.
        """
        self._opened()
        self._supervisor.crash(restart_after_s)
        self._supervisor.settle()

    def crash_after(
        self,
        event: str | None = None,
        name: Any = None,
        *,
        of: str | None = None,
        seq: int | None = None,
        count: int = 1,
        restart_after_s: float | None = 0.0,
    ) -> None:
        """Crash right after the commit of an event: nothing that follows from it has happened.

        `event` is its kind, such as `activity_completed`; `name` an activity, workflow, signal or its name; `of` the
        id of the execution; `seq` its number. What is left out fits any. The `count`-th that fits is the one.
        """
        trigger = Trigger(kind_of(event), name_of(name), of, seq, count, False, restart_after_s)
        self._supervisor.triggers.append(trigger)

    def crash_before(
        self,
        event: str | None = None,
        name: Any = None,
        *,
        of: str | None = None,
        seq: int | None = None,
        count: int = 1,
        restart_after_s: float | None = 0.0,
    ) -> None:
        """Crash in place of the commit of an event: what led to it has happened, and is not recorded. For
        `activity_completed` the activity took effect and will run again. See `crash_after`."""
        trigger = Trigger(kind_of(event), name_of(name), of, seq, count, True, restart_after_s)
        self._supervisor.triggers.append(trigger)

    def restart(self, workflows: Iterable[Workflow[..., Any, Any] | ModuleType] | None = None) -> None:
        """Start the process again; one that runs is stopped in order first, as for a new deployment. With `workflows`
        it has other code from now on."""
        self._opened()
        if workflows is not None:
            self._registry = Registry(workflows, self.strict)
        self._supervisor.restart(self._registry)

    # --- time -------------------------------------------------------------------------------------------------------

    @property
    def now(self) -> datetime:
        """The virtual instant, in UTC."""
        return instant(self.clock.now_us())

    def advance(self, seconds: float) -> None:
        """Let so many virtual seconds pass, and whatever happens in them happen."""
        if seconds < 0:
            raise ValueError(f"time passes forward only, not {seconds!r} seconds; see jump()")
        self._opened()
        self._supervisor.drive(lambda: False, seconds)

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back with less than 0, as a person or a time server does."""
        self.clock.jump(seconds)
        self._supervisor.look()

    def run_until(self, condition: Callable[[], Any], timeout_s: float | None = None) -> None:
        """Let time pass until `condition()` is true. Raises `Stuck` when nothing can happen any more, `TimeoutError`
        after `timeout_s` virtual seconds."""
        self._opened()
        if not self._supervisor.drive(lambda: bool(condition()), timeout_s):
            if timeout_s is not None:
                raise TimeoutError(f"not so within {timeout_s:g} virtual seconds")
            raise Stuck("nothing can happen any more, and the condition is not true", hint=self._supervisor.hint())

    def run_until_idle(self) -> None:
        """Let time pass until nothing can happen any more: every execution has ended, or waits for the world
        outside."""
        self._opened()
        self._supervisor.drive(lambda: False, None)

    # --- for tools on top -------------------------------------------------------------------------------------------

    @property
    def on_commit(self) -> Callable[[Commit], Any] | None:
        """Called before and after each commit of the process; may call `crash`, and after it `cancel` or `signal`."""
        return self._supervisor.on_commit

    @on_commit.setter
    def on_commit(self, hook: Callable[[Commit], Any] | None) -> None:
        self._supervisor.on_commit = hook

    @property
    def on_attempt(self) -> Callable[[ActivityCall], Fault | None] | None:
        """Called before each attempt; gives what is to go wrong with it, or None."""
        return self._supervisor.stage.on_attempt

    @on_attempt.setter
    def on_attempt(self, hook: Callable[[ActivityCall], Fault | None] | None) -> None:
        self._supervisor.stage.on_attempt = hook

    @property
    def on_effect(self) -> Callable[[ActivityCall], Coroutine[Any, Any, None]] | None:
        """Awaited when an attempt has taken effect, before it answers."""
        return self._supervisor.stage.on_effect

    @on_effect.setter
    def on_effect(self, hook: Callable[[ActivityCall], Coroutine[Any, Any, None]] | None) -> None:
        self._supervisor.stage.on_effect = hook


def _closed() -> EngineClosed:
    return EngineClosed("the environment is not open", hint="use it inside `with Environment(…) as env:`")
