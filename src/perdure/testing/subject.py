"""What is explored, and one run of it under a schedule."""

from __future__ import annotations

import os
import shutil
import traceback
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

from perdure.activity import Activity
from perdure.codec.payload import Payloads
from perdure.engine.registry import AnyWorkflow, Registry
from perdure.errors import PerdureError
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.recordings import Recorded, Recordings, Selection
from perdure.testing.disturbance import EXPLORED, Disturbance, Shape
from perdure.testing.environment import Environment
from perdure.testing.fakes import Endless, SimulationError, Stuck
from perdure.testing.outcome import Outcome, effects_of
from perdure.testing.recording import Recording
from perdure.testing.replaying import examine
from perdure.testing.schedule import Schedule, What
from perdure.types import Status

TRANSPARENT = frozenset({What.CRASH_BEFORE, What.CRASH_AFTER, What.EVICT, What.TWICE})
"""Mishaps that nothing should be seen of in a result."""
MAX_BYTES = 1 << 30
MEMORY = "/dev/shm"
ROOM_BYTES = 64 * 1024 * 1024
MAX_COMMITS = 5_000


@dataclass(frozen=True)
class Problem:
    """What is wrong with a run. `kind` is `check`, `result`, `replay`, `blocked`, `stuck`, `endless` or `hash seed`."""

    kind: str
    message: str


@dataclass
class Ran:
    """One run that is over."""

    schedule: Schedule
    outcome: Outcome
    shape: Shape
    recorded: list[Recorded]
    problem: Problem | None = None


@dataclass
class Subject:
    """See the module; the fields are those of `explore`."""

    workflow: AnyWorkflow
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    workflows: Sequence[AnyWorkflow | ModuleType]
    setup: Callable[[Environment], Any] | None
    check: Callable[[Outcome], Any] | None
    real: bool | Collection[Activity[..., Any, Any]]
    strict: bool
    until_s: float | None
    errors: dict[str, BaseException] = field(default_factory=dict)
    """What activities fail with, by name."""
    undisturbed: Outcome | None = None
    """The outcome when nothing goes wrong, once it is known."""
    max_commits: int = MAX_COMMITS
    runs: int = 0
    registry: Registry = field(init=False)
    _empty: bytes = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self.registry = Registry([self.workflow, *self.workflows], self.strict)
        self._empty = _empty_database()

    def run(self, schedule: Schedule, tell: bool = False) -> Ran:
        """Run it under a schedule, in an environment of its own; with `tell` the outcome has its timeline in any case.

        Raises `SimulationError` for what the test asks for and the environment cannot do.
        """
        self.runs += 1
        evict = any(mishap.what is What.EVICT for mishap in schedule.mishaps)
        try:
            with TemporaryDirectory(prefix="perdure-explore-", dir=_quick_folder()) as folder:
                database = Path(folder, "test.db")
                database.write_bytes(self._empty)
                environment = Environment(
                    self.registry,
                    database=database,
                    real=self.real,
                    strict=self.strict,
                    hot=0 if evict else 10_000,
                    max_commits=self.max_commits,
                )
                with environment:
                    return self._run(environment, schedule, tell)
        except SimulationError as error:
            if schedule.mishaps:
                error.add_note(f'under the schedule "{schedule}"')
            raise

    def _run(self, environment: Environment, schedule: Schedule, tell: bool) -> Ran:
        world = self.setup(environment) if self.setup is not None else None
        disturbance = Disturbance(environment, schedule, self.errors)
        outcome = Outcome(schedule, Status.PENDING, world=world)
        problem = self._drive(environment, outcome)
        outcome.calls = environment.calls()
        outcome.effects = effects_of(outcome.calls)
        recorded = _read(environment.path)
        ran = Ran(schedule, outcome, disturbance.shape, recorded)
        ran.problem = problem or self._replay(recorded) or self._judge(outcome)
        if ran.problem is not None or tell:
            outcome.timeline = environment.timeline()
        return ran

    def _drive(self, environment: Environment, outcome: Outcome) -> Problem | None:
        """Let it run to its end; fill in what became of it."""
        problem: Problem | None = None
        execution = environment.start(self.workflow, *self.args, id=EXPLORED, **self.kwargs)
        try:
            environment.wait(EXPLORED, self.until_s)
        except TimeoutError:
            pass  # it need not end by then
        except Stuck as error:
            problem = Problem("stuck", _text(error))
        except Endless as error:
            problem = Problem("endless", _text(error))
        outcome.status = execution.status
        if outcome.status is Status.BLOCKED:
            problem = Problem("blocked", execution.info().problem or "")
        if outcome.status.closed:
            try:
                outcome.result = execution.result()
            except Exception as error:
                outcome.error = error
        return problem

    # --- judging ----------------------------------------------------------------------------------------------------

    def _replay(self, recorded: list[Recorded]) -> Problem | None:
        """Replay what was recorded: code that depends on anything else does not fit its own history."""
        for one in recorded:
            found = examine(Recording.of(one), self.registry, MAX_BYTES)
            if found is not None:
                return Problem("replay", f"the code does not fit the history that it has just made\n{found}")
        return None

    def _judge(self, outcome: Outcome) -> Problem | None:
        if self.check is None:
            return self._compare(outcome)
        try:
            answer = self.check(outcome)
        except Exception as error:
            return Problem("check", _raised(error))
        if answer is False:
            return Problem("check", f"{getattr(self.check, '__name__', 'the check')} gave False")
        return None

    def _compare(self, outcome: Outcome) -> Problem | None:
        """Without a predicate: what the user cannot tell from no mishap must not show in the result."""
        before = self.undisturbed
        if before is None or not {mishap.what for mishap in outcome.schedule.mishaps} <= TRANSPARENT:
            return None
        ends = [(one.status, one.result, type(one.error), str(one.error)) for one in (before, outcome)]
        if ends[0] == ends[1]:
            return None
        return Problem("result", f"undisturbed it {before.ending}\nnow it {outcome.ending}")


def _empty_database() -> bytes:
    """Make a file that has its tables already: a copy of it is there sooner than a new one."""
    with TemporaryDirectory(prefix="perdure-explore-", dir=_quick_folder()) as folder:
        path = Path(folder, "empty.db")
        SqliteStore(path).close()
        return path.read_bytes()


def _quick_folder() -> str | None:
    """Give a folder that is in memory, if there is one with room: thousands of files come and go."""
    usable = os.path.isdir(MEMORY) and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return MEMORY if usable else None


def _read(path: Path) -> list[Recorded]:
    """Give everything that was recorded, oldest first."""
    with Recordings(path, Payloads(None)) as recordings:
        return [*recordings.read(Selection())][::-1]


def _text(error: PerdureError) -> str:
    return str(error.args[0]) if error.args else str(error)


def _raised(error: Exception) -> str:
    """Tell an error of a predicate with the line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    frame = frames[-1] if frames else None
    where = f"\nat {frame.filename}:{frame.lineno} in {frame.name}: {frame.line}" if frame is not None else ""
    return f"{type(error).__name__}: {error}{where}"
