"""Exploring a workflow: running it under many schedules of what can go wrong, and judging each run.

    undisturbed, twice ──▶ every single mishap ──▶ on top of what opened up something new ──▶ random ones
                                                        │ a run fails
                                                        ▼
                              all histories under other hash seeds      cut down, reported

Each run is an `Environment` of its own. A run fails when the predicate says so, when the execution can never end or is
blocked, or when the code does not fit the history that it has just made.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from types import ModuleType
from typing import Any

from perdure.activity import Activity
from perdure.engine.registry import AnyWorkflow
from perdure.testing.disturbance import Shape
from perdure.testing.environment import Environment
from perdure.testing.explore_report import ExploreReport
from perdure.testing.hash_seeds import Unreachable, first_misfit
from perdure.testing.outcome import Outcome
from perdure.testing.plans import Plans
from perdure.testing.schedule import Schedule, What
from perdure.testing.shrinking import shrink
from perdure.testing.subject import MAX_COMMITS, Ran, Subject
from perdure.workflow import Workflow

OPENINGS = 3
"""So many schedules that lead to the same new call are built on."""
KEPT = 300
"""Runs whose histories are kept to be replayed under other hash seeds."""


def explore(
    workflow: Workflow[..., Any, Any],
    *args: Any,
    kwargs: Mapping[str, Any] | None = None,
    setup: Callable[[Environment], Any] | None = None,
    check: Callable[[Outcome], Any] | None = None,
    seed: int | str = 0,
    schedules: int = 100,
    singles: int = 500,
    kinds: Collection[str] | None = None,
    errors: Mapping[Activity[..., Any, Any], BaseException] | None = None,
    hash_seeds: Sequence[int] = (1, 2),
    workflows: Iterable[AnyWorkflow | ModuleType] = (),
    real: bool | Collection[Activity[..., Any, Any]] = (),
    until_s: float | None = None,
    max_commits: int = MAX_COMMITS,
    strict: bool = True,
    raises: bool = True,
) -> ExploreReport:
    """Run `workflow(*args, **kwargs)` under many schedules, and fail with the smallest one that breaks it.

    `setup(environment)` makes each run ready: fakes, signals. What it gives is `outcome.world`. `real` names the
    activities that may run themselves. `check(outcome)` judges a run by raising or by giving False; without it the
    result must be that of the undisturbed run wherever only crashes, evictions and duplicates happened.

    `singles` and `schedules` limit how many schedules with one mishap and with several are tried; `kinds` says which
    mishaps may happen (see `perdure.testing.schedule`), all by default. `errors` says what activities fail with, in
    place of a `SimulatedFailure` (a `ConnectionError`). Everything recorded is replayed under `hash_seeds` as well, in
    interpreters of their own. `until_s` ends a run after so many virtual seconds, for a workflow that need not end;
    one that has made `max_commits` commits never ends.

    `seed` is a number, which draws the random schedules, or a schedule as text, which is then the only one: that is
    how a failure is repeated. Raises `ExplorationFailed` (an `AssertionError`), unless `raises` is false.
    """
    __tracebackhide__ = True  # pytest shows the caller
    began = time.perf_counter()
    named = {activity.name: error for activity, error in (errors or {}).items()}
    subject = Subject(
        workflow, args, dict(kwargs or {}), list(workflows), setup, check, real, strict, until_s, named,
        max_commits=max_commits,
    )  # fmt: skip
    exploration = Exploration(subject, ExploreReport(workflow.name, seed=seed))
    if isinstance(seed, str):
        exploration.one(Schedule.parse(seed))
    else:
        allowed = [What(kind) for kind in kinds] if kinds is not None else list(What)
        with _without_log():
            exploration.all(Plans(allowed, random.Random(seed)), singles, schedules)
    exploration.replay(hash_seeds)
    report = exploration.report
    report.took_s = time.perf_counter() - began
    if raises:
        report.raise_for_failure()
    return report


class Exploration:
    """One exploration under way: the runs so far, up to the first that fails."""

    def __init__(self, subject: Subject, report: ExploreReport) -> None:
        self.subject = subject
        self.report = report
        self.kept: dict[str, Ran] = {}
        """Runs by what was recorded, the smallest schedule for each."""

    def one(self, schedule: Schedule) -> None:
        """Run the undisturbed schedule, to compare with, and exactly this one."""
        if schedule.mishaps and not self._undisturbed():
            return
        self._run(schedule, cut=False)

    def all(self, plans: Plans, singles: int, several: int) -> None:
        if not self._undisturbed():
            return
        undisturbed = next(iter(self.kept.values())).shape
        known = Shape(undisturbed.commits, dict(undisturbed.calls))
        opened: list[Schedule] = []
        openings: Counter[tuple[str, int]] = Counter()
        every = plans.singles(undisturbed)
        if len(every) > singles:
            self.report.skipped.append(f"{len(every) - singles:,} of {len(every):,} single mishaps, by `singles`")
        for schedule in plans.sampled(every, singles):
            ran = self._run(schedule)
            if ran.problem is not None:
                return
            new = ran.shape.calls.keys() - undisturbed.calls.keys()
            if any(openings[place] < OPENINGS for place in new):
                openings.update(new)
                opened += plans.beyond(schedule, ran.shape, undisturbed)
            known.add(ran.shape)
        for schedule in _several(plans, opened, known, several):
            ran = self._run(schedule)
            if ran.problem is not None:
                return
            known.add(ran.shape)

    def _undisturbed(self) -> bool:
        """Run it twice with nothing going wrong; say whether that went well."""
        runs = [self._run(Schedule()) for _ in range(2) if self.report.ok]
        if not self.report.ok:
            return False
        self.subject.undisturbed = self.report.undisturbed = runs[0].outcome
        if _gist(runs[0]) != _gist(runs[1]):
            self.report.skipped.append(
                "repeating a schedule exactly: two undisturbed runs differ, so what `setup` fakes differs each time"
            )
        return True

    def _run(self, schedule: Schedule, cut: bool = True) -> Ran:
        """Run a schedule; if it fails, cut it down, unless told not to, and report it."""
        ran = self.subject.run(schedule)
        self.report.schedules[schedule.kind] += 1
        if ran.problem is not None:
            before = self.subject.runs
            self.report.first = ran
            self.report.failure = shrink(ran, self.subject.run) if schedule.mishaps and cut else ran
            self.report.shrinking_runs = self.subject.runs - before
        else:
            self._keep(ran)
        return ran

    def _keep(self, ran: Ran) -> None:
        if len(self.kept) < KEPT:
            self.kept.setdefault(_gist(ran), ran)

    def replay(self, seeds: Sequence[int]) -> None:
        """Replay what was kept under other hash seeds, unless something was found already."""
        if not self.report.ok or not seeds:
            return
        runs = sorted(self.kept.values(), key=lambda ran: len(ran.schedule))
        try:
            found = first_misfit(runs, self.subject.registry.by_name.values(), seeds)
        except Unreachable as error:
            self.report.skipped.append(f"other hash seeds: {error}")
            return
        self.report.hash_seeds = tuple(seeds)
        if found is not None:
            again = self.subject.run(found[0].schedule, tell=True)
            again.problem = again.problem or found[1]
            self.report.first = self.report.failure = again


def _several(plans: Plans, opened: list[Schedule], known: Shape, limit: int) -> Iterator[Schedule]:
    """Give schedules of several mishaps: half of them at most on what opened up something new."""
    chosen = plans.sampled(opened, limit // 2)
    yield from chosen
    for _ in range(limit - len(chosen)):
        yield plans.random(known)


@contextlib.contextmanager
def _without_log() -> Iterator[None]:
    """Keep what the engine says of crashes and failures to itself: they are meant. One schedule alone is told."""
    logger = logging.getLogger("perdure")
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)


def _gist(ran: Ran) -> str:
    """Say what was recorded, without instants: many schedules lead to the same histories."""
    return "\n".join(
        f"{recorded.row.id} {recorded.row.run} {event.kind} {event.ref} {event.name} {event.data}"
        for recorded in ran.recorded
        for event in recorded.events
    )
