"""A schedule: what goes wrong, and when, in one run of a workflow. Small data, so that it can be written, read and cut.

As text each mishap is a word, and a schedule is its words with spaces between, such as `crash-before@5
fail:charge#1*2 evict`:

    crash-before@5     the process dies in place of the 5th commit: what it would have recorded is lost
    crash-after@5      it dies right after that, before anything that follows from it
    cancel@5           the execution is cancelled right after the 5th commit
    fail:charge#1      the first attempt of the first call of charge raises before it takes effect
    fail:charge#1*3    the first three attempts do; `*all`: all of them
    fail-after:charge#1     it takes effect, and raises then: its answer is lost
    timeout:charge#1        it hangs before it takes effect, until its time limit ends it
    timeout-after:charge#1  it hangs after it took effect
    twice:charge#1     it takes effect twice, as a request that is delivered twice
    delay:charge#1     it takes an hour longer, so that others are done before it
    cancel-in:charge#1 the execution is cancelled when the first attempt took effect and has not answered
    shuffle@7          all attempts take a little while, drawn with seed 7, so that they end in another order
    evict              the execution is evicted from memory whenever it waits
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Self
from urllib.parse import quote, unquote

ALL = 1_000_000_000
"""`times` of a mishap that befalls every attempt of a call."""


class What(StrEnum):
    """The kinds of mishaps; see the module."""

    CRASH_BEFORE = "crash-before"
    CRASH_AFTER = "crash-after"
    CANCEL = "cancel"
    FAIL = "fail"
    FAIL_AFTER = "fail-after"
    TIMEOUT = "timeout"
    TIMEOUT_AFTER = "timeout-after"
    TWICE = "twice"
    DELAY = "delay"
    CANCEL_IN = "cancel-in"
    SHUFFLE = "shuffle"
    EVICT = "evict"


AT_COMMIT = frozenset({What.CRASH_BEFORE, What.CRASH_AFTER, What.CANCEL})
IN_CALL = frozenset(
    {What.FAIL, What.FAIL_AFTER, What.TIMEOUT, What.TIMEOUT_AFTER, What.TWICE, What.DELAY, What.CANCEL_IN}
)
_WORD = re.compile(
    r"(?P<what>[a-z-]+)(?:@(?P<at>\d+)|:(?P<activity>[^#@*\s]+)#(?P<call>\d+)(?:\*(?P<times>\d+|all))?)?"
)


@dataclass(frozen=True, order=True)
class Mishap:
    """One thing that goes wrong. `at` is a commit's number, counted from 1 over restarts, or the seed of a shuffle.
    `call` says which call of `activity`, counted from 1 in the order of first attempts, and `times` how many attempts
    of it."""

    what: What
    at: int = 0
    activity: str = ""
    call: int = 0
    times: int = 1

    def __str__(self) -> str:
        if self.what in IN_CALL:
            times = "" if self.times == 1 else "*all" if self.times >= ALL else f"*{self.times}"
            return f"{self.what}:{quote(self.activity, safe='')}#{self.call}{times}"
        return self.what if self.what is What.EVICT else f"{self.what}@{self.at}"

    @classmethod
    def parse(cls, word: str) -> Self:
        """Read one word. Raises `ValueError`."""
        match = _WORD.fullmatch(word)
        known = match is not None and match["what"] in set(What)
        what = What(match["what"]) if match is not None and known else None
        if match is None or what is None or (match["at"] is not None) != (what in AT_COMMIT or what is What.SHUFFLE):
            raise ValueError(f"{word!r} is not a mishap; there are {', '.join(What)}, such as crash-before@5")
        if (match["activity"] is not None) != (what in IN_CALL):
            raise ValueError(f"{word!r} does not name the call of an activity, such as {what}:charge#1")
        times = match["times"] or "1"
        return cls(
            what,
            int(match["at"] or 0),
            unquote(match["activity"] or ""),
            int(match["call"] or 0),
            ALL if times == "all" else int(times),
        )

    def describe(self) -> str:
        """Say it in words."""
        few = "attempt 1" if self.times == 1 else f"each of the first {self.times} attempts"
        attempts = "every attempt" if self.times >= ALL else few
        call = f"of call {self.call} of {self.activity}"
        return {
            What.CRASH_BEFORE: f"the process dies in place of commit {self.at}",
            What.CRASH_AFTER: f"the process dies right after commit {self.at}",
            What.CANCEL: f"the execution is cancelled right after commit {self.at}",
            What.FAIL: f"{attempts} {call} raises before it takes effect",
            What.FAIL_AFTER: f"{attempts} {call} takes effect and raises then",
            What.TIMEOUT: f"{attempts} {call} hangs before it takes effect",
            What.TIMEOUT_AFTER: f"{attempts} {call} takes effect and hangs then",
            What.TWICE: f"{attempts} {call} takes effect twice",
            What.DELAY: f"{attempts} {call} takes an hour longer",
            What.CANCEL_IN: f"the execution is cancelled when attempt 1 {call} took effect and has not answered",
            What.SHUFFLE: f"attempts take a little while each, drawn with seed {self.at}",
            What.EVICT: "the execution is evicted whenever it waits",
        }[self.what]


@dataclass(frozen=True)
class Schedule:
    """Some mishaps, at most one of each kind at one place."""

    mishaps: tuple[Mishap, ...] = ()

    @classmethod
    def of(cls, mishaps: Iterable[Mishap]) -> Self:
        return cls(tuple(sorted(set(mishaps))))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a schedule; empty text is one in which nothing goes wrong. Raises `ValueError`."""
        return cls.of(Mishap.parse(word) for word in text.split())

    def __str__(self) -> str:
        return " ".join(map(str, self.mishaps))

    def __len__(self) -> int:
        return len(self.mishaps)

    def without(self, mishap: Mishap) -> Schedule:
        return Schedule(tuple(other for other in self.mishaps if other != mishap))

    def replaced(self, mishap: Mishap, by: Mishap) -> Schedule:
        return Schedule.of(by if other == mishap else other for other in self.mishaps)

    @property
    def kind(self) -> str:
        """What this schedule is counted as."""
        if not self.mishaps:
            return "undisturbed"
        return self.mishaps[0].what.value if len(self.mishaps) == 1 else "combined"
