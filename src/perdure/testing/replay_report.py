"""What a check of recorded histories found."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import islice

from perdure.errors import NonDeterminismError
from perdure.types import Status

SHOWN_IDS = 5
"""How many executions with the same finding the text names."""


class Misfit(StrEnum):
    """Why an execution does not fit today's code."""

    MISMATCH = "mismatch"
    """The code asks for something else than the history has."""
    VALUE = "value"
    """A recorded value does not fit the type that the code gives it now."""
    REFUSED = "refused"
    """The code does what replay cannot repeat: the guard refuses it."""
    UNKNOWN_WORKFLOW = "unknown workflow"
    UNREADABLE = "unreadable"
    """The history cannot be read: a wrong key, or damage."""


@dataclass(frozen=True, kw_only=True)
class Mismatch:
    """The first thing that does not fit in one run. `status` is None for a history file; `seq`, `expected`, `got` and
    `source` (file, line and function of the user's) are there as far as `what` has them."""

    id: str
    run: int
    workflow: str
    status: Status | None
    what: Misfit
    message: str
    seq: int | None = None
    expected: str = ""
    got: str = ""
    source: str = ""

    @property
    def name(self) -> str:
        return self.id if self.run == 1 else f"{self.id}#{self.run}"

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        status = f" ({self.status})" if self.status is not None else ""
        event = f", event #{self.seq}" if self.seq is not None else ""
        yield f"{self.name}{status}{event}: {self.what}"
        if self.expected or self.got:
            yield f"  expected {self.expected}"
            yield f"  got      {self.got}"
            if self.source:
                yield f"  at       {self.source}"
        else:
            yield from (f"  {line}" for line in self.message.splitlines())


@dataclass
class ReplayReport:
    """What `check_replay` found. True in a condition when everything fits; `str()` is a text for people.

    `checked` counts runs, `mismatches` has those that do not fit, in the order in which they were read.
    """

    checked: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    by_workflow: Counter[str] = field(default_factory=Counter)
    """How many runs of each workflow were checked."""
    took_s: float = 0.0

    @property
    def ok(self) -> bool:
        return not self.mismatches

    def __bool__(self) -> bool:
        return self.ok

    def raise_for_mismatch(self) -> None:
        """Raise `NonDeterminismError` with the whole text if anything does not fit."""
        __tracebackhide__ = True  # pytest shows the caller
        if not self.ok:
            raise NonDeterminismError(
                str(self), hint='run code that fits, or keep the old path beside the new one with `if patched("…"):`'
            )

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def __repr__(self) -> str:
        return f"<{self}>"

    def _lines(self) -> Iterator[str]:
        workflows = f" of {_counted(len(self.by_workflow), 'workflow')}" if self.by_workflow else ""
        fits = self.checked - len(self.mismatches)
        verdict = "all fit" if self.ok else f"{fits:,} fit, {len(self.mismatches):,} not"
        yield f"{_counted(self.checked, 'history', 'histories')}{workflows} replayed: {verdict}"
        for same in self.groups():
            yield ""
            yield f"workflow {same[0].workflow}: {_counted(len(same), 'execution')}"
            yield from (f"  {line}" for line in str(same[0]).splitlines())
            if len(same) > 1:
                more = ", ".join(mismatch.name for mismatch in islice(same, 1, SHOWN_IDS))
                yield f"  and so do {more}" + (f" and {len(same) - SHOWN_IDS:,} more" if len(same) > SHOWN_IDS else "")

    def groups(self) -> list[list[Mismatch]]:
        """Give the mismatches by what is probably one cause, the most frequent first."""
        found: dict[tuple[str, str, str, str], list[Mismatch]] = {}
        for mismatch in self.mismatches:
            place = mismatch.source or ("" if mismatch.seq is not None else mismatch.message.partition("\n")[0])
            key = (mismatch.workflow, mismatch.what, place, _verb(mismatch.expected))
            found.setdefault(key, []).append(mismatch)
        return sorted(found.values(), key=len, reverse=True)


def _verb(command: str) -> str:
    """Give the kind of a command out of its text, such as `timer_started` of `#4 timer_started 17…`."""
    words = command.split(maxsplit=2)
    return words[1] if len(words) > 1 else command


def _counted(count: int, noun: str, nouns: str = "") -> str:
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"
