"""The ledger of effects against the histories.

1. No effect before the schedule of its activity was committed: that is in the file, and was at that moment.
2. Every activity that completed took effect, in the attempt that ended it.
3. An attempt takes effect once, and its successor only once the file says how it ended.
4. What the file says is done does not run again. Processes that a kill does not reach (programs, and whoever lost the
   lock while it was stopped) may still finish an attempt that was given up.
5. No more attempts are interrupted than processes ended while the activity was open.
6. Idempotency keys: one for each step, the same in all of its attempts.
7. A transactional activity took effect exactly as often as its completion is in the history: once.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator

import msgspec
from crash_book import Book, Done, Step
from crash_ledger import Effect, Places, Tail

Span = tuple[int, int]
"""From when to when, in microseconds since 1970."""
STRAY = frozenset({"exec_step"})
"""Activities that a kill of their worker does not end."""
TRANSACTIONAL = "tally"


class Effects:
    """Reads the ledger in two parts: before the database is read, and after."""

    def __init__(self, places: Places) -> None:
        self._tail = Tail(places.effects, Effect)
        self._between: list[Effect] = []
        """What was noted between the last look and this one."""
        self._late: list[Effect] = []
        self._left: list[Effect] = []
        """What was noted while the last book was read, or since: it may be in the next one only."""
        self._checked: Counter[tuple[Step, int]] = Counter()
        self._completed: set[Step] = set()
        """Activities of which the last book said that they completed."""
        self._steps: dict[tuple[str, str], str] = {}
        self._keys: dict[str, tuple[str, str]] = {}
        self.attempts: dict[Step, Counter[int]] = defaultdict(Counter)
        self.total = 0
        self.repeated = 0
        """Effects in a second or later attempt."""

    @property
    def keys(self) -> Iterable[tuple[str, str]]:
        """What took effect at least once: (execution, key)."""
        return self._steps.keys()

    def read_before(self) -> None:
        """Read what was noted before the book is: all of it must be in there."""
        self._between = self._tail.read()
        self._take(self._between)

    def read_after(self) -> None:
        """Read what was noted until the book is complete: whatever completed in there must be among it."""
        self._late = self._tail.read()
        self._take(self._late)

    def _take(self, effects: list[Effect]) -> None:
        for effect in effects:
            self.attempts[effect.step][effect.attempt] += 1
            self.total += 1
            self.repeated += effect.attempt > 1

    def check(self, book: Book, dooms: list[Span], endings: list[Span], outlived: set[int]) -> Iterator[str]:
        for effect in self._between:
            yield from self._check_again(effect, book, outlived)
        for effect in self._left + self._between:
            yield from self._check_effect(effect, book)
        self._left = self._late
        for done in book.activities.values():
            yield from self._check_activity(done, dooms, endings)
        self._completed = {done.step for done in book.activities.values() if done.completed}

    def _check_effect(self, effect: Effect, book: Book) -> Iterator[str]:
        done = book.activities.get(effect.step)
        if effect.committed is False:
            yield f"took effect before its schedule was committed: {effect}"
        if done is None:
            yield f"took effect, and its schedule is not in the file: {effect}"
            return
        if done.name != effect.activity or msgspec.json.decode(done.scheduled.data or "")["key"] != effect.key:
            yield f"took effect as {effect}, and was scheduled as {done.scheduled}"
        if effect.attempt > done.last_attempt:
            yield f"attempt {effect.attempt} took effect, and attempt {done.last_attempt} has not ended: {effect}"
        self._checked[effect.step, effect.attempt] += 1
        if self._checked[effect.step, effect.attempt] > book.tries(effect.step):
            yield f"an attempt took effect twice: {effect}"
        known = self._steps.setdefault((effect.id, effect.key), effect.idempotency)
        other = self._keys.setdefault(effect.idempotency, (effect.id, effect.key))
        if known != effect.idempotency or other != (effect.id, effect.key):
            yield f"idempotency keys differ: {effect}, before {known}, and the same of {other}"

    def _check_again(self, effect: Effect, book: Book, outlived: set[int]) -> Iterator[str]:
        """Check an effect that came after the last book was read."""
        if effect.step not in self._completed:
            return
        done = book.activities.get(effect.step)
        given_up = done is not None and effect.attempt < done.last_attempt
        if not given_up or not (effect.activity in STRAY or effect.pid in outlived):
            yield f"what was completed ran again: {effect}"

    def _check_activity(self, done: Done, dooms: list[Span], endings: list[Span]) -> Iterator[str]:
        where = f"{done.step} {done.name}"
        if done.completed and done.name != TRANSACTIONAL and not self.attempts[done.step][done.last_attempt]:
            yield f"completed in attempt {done.last_attempt}, which took no effect: {where}"
        if [note.attempt for _, note in done.notes] != list(range(1, done.last_attempt)):
            yield f"the attempts are not counted one by one: {where} {done.notes}"
        if not done.notes:
            return
        began, ended = done.scheduled.at, done.notes[-1][0]
        possible = sum(first <= ended and began <= last for first, last in dooms)
        if done.count("interrupted") > possible:
            yield f"{done.count('interrupted')} attempts were interrupted, of {possible} possible: {where}"
        if done.count("stopped") and not any(first <= ended and began <= last for first, last in endings):
            yield f"attempts were stopped, and no process was asked to end: {where}"
        if done.count("error") and done.name != "stumble":
            yield f"an attempt failed: {where} {done.notes}"

    def check_tally(self, rows: list[tuple[str, int]], book: Book) -> Iterator[str]:
        """Compare the rows that transactional activities wrote, as of the same moment, with their completions."""
        logged: Counter[tuple[str, int]] = Counter()
        for done in book.activities.values():
            if done.name == TRANSACTIONAL and (done.completed or done.parked):
                arguments = msgspec.json.decode(done.scheduled.data or "")
                logged[arguments["execution"], arguments["n"]] += 1
        found = Counter(rows)
        for row in found.keys() | logged.keys():
            if not found[row] == logged[row] == 1:
                yield f"a transaction is in the table {found[row]} times, and {logged[row]} times in the history: {row}"
