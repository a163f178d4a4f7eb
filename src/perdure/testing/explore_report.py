"""What an exploration found, for a test and for a person."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from perdure.testing.outcome import Outcome
from perdure.testing.subject import Ran

SHOWN_EFFECTS = 30
SHOWN_LINES = 120


@dataclass
class ExploreReport:
    """How many schedules were tried, by kind, and the failure if there was one.

    `failure` is the smallest run that was found to fail, `first` the one that failed first. `skipped` says what could
    not be looked at, and why.
    """

    workflow: str
    schedules: Counter[str] = field(default_factory=Counter)
    seed: int | str = 0
    undisturbed: Outcome | None = None
    failure: Ran | None = None
    first: Ran | None = None
    shrinking_runs: int = 0
    hash_seeds: tuple[int, ...] = ()
    """The hash seeds under which everything was replayed."""
    skipped: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def ok(self) -> bool:
        return self.failure is None

    def __bool__(self) -> bool:
        return self.ok

    @property
    def total(self) -> int:
        return sum(self.schedules.values())

    def raise_for_failure(self) -> None:
        """Raise `ExplorationFailed` with the whole text if a schedule failed."""
        __tracebackhide__ = True  # pytest shows the caller
        if not self.ok:
            raise ExplorationFailed(self)

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return f"<{self}>"

    def _lines(self) -> Iterator[str]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.schedules.items()))
        verdict = "nothing found" if self.ok else "a failure"
        yield f"workflow {self.workflow}: {verdict} in {self.total:,} schedules ({kinds})"
        if self.undisturbed is not None:
            yield f"undisturbed it {self.undisturbed.ending}"
        if self.hash_seeds:
            yield f"replayed under the hash seeds {', '.join(map(str, self.hash_seeds))}"
        yield from (f"skipped: {what}" for what in self.skipped)
        if self.failure is not None:
            yield from self._failure(self.failure)

    def _failure(self, failure: Ran) -> Iterator[str]:
        assert failure.problem is not None
        schedule, outcome = failure.schedule, failure.outcome
        yield ""
        yield f"{failure.problem.kind}: {failure.problem.message}"
        yield ""
        yield "what goes wrong:" if schedule.mishaps else "nothing goes wrong in this run"
        yield from (f"  {mishap}: {mishap.describe()}" for mishap in schedule.mishaps)
        if self.first is not None and self.first.schedule != schedule:
            yield f"  (found as {str(self.first.schedule)!r}, cut down in {self.shrinking_runs} runs)"
        yield ""
        yield f"it {outcome.ending}"
        lines = outcome.timeline.splitlines()
        yield from lines[:SHOWN_LINES]
        if len(lines) > SHOWN_LINES:
            yield f"… and {len(lines) - SHOWN_LINES:,} more lines"
        yield ""
        yield "what took effect:" if outcome.effects else "nothing took effect"
        yield from (f"  {effect}" for effect in outcome.effects[:SHOWN_EFFECTS])
        if len(outcome.effects) > SHOWN_EFFECTS:
            yield f"  … and {len(outcome.effects) - SHOWN_EFFECTS:,} more"
        yield ""
        yield f'to repeat it: explore(…, seed="{schedule}")'


class ExplorationFailed(AssertionError):
    """A schedule was found under which something is wrong. `report` has the details."""

    def __init__(self, report: ExploreReport) -> None:
        super().__init__(str(report))
        self.report = report
