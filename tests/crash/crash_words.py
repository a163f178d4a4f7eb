"""What callers asked and were told, against the histories: nothing that was acknowledged is lost."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from crash_book import Book, closing, input_of
from crash_ledger import Places, Tail, Word

from perdure.events import Kind
from perdure.testing.audit.standing import ACTIVITY_ENDS

NOTED_AS = {
    "cancel": Kind.CANCEL_REQUESTED,
    "terminate": Kind.TERMINATED,
    "pause": Kind.PAUSED,
    "resume": Kind.RESUMED,
    "retry": Kind.REOPENED,
}


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


class Words:
    """Reads the ledger in two parts: what was told before the database is read must be in there."""

    def __init__(self, places: Places) -> None:
        self._tail = Tail(places.words, Word)
        self._open: list[Word] = []
        """Told, and not in a history so far: in the inbox, for example."""
        self._late: list[Word] = []
        self.asked: dict[tuple[str, str], list[Word]] = defaultdict(list)
        """By (what, id)."""
        self.told = 0
        self.values: dict[str, list[tuple[str, int]]] = defaultdict(list)
        """Numbers that were acknowledged, by receiver: (sender, number), in order."""
        self._received: dict[str, int] = {}
        self._checks: dict[str, Callable[[Word, Book], bool | str]] = {
            "start": self._started,
            "signal": self._signalled,
            "complete": self._completed,
            "state": self._state,
            "result": self._result,
            "error": self._error,
        }

    def read_before(self) -> None:
        self._take(self._tail.read())
        self._open += self._late
        self._late = []

    def read_after(self) -> None:
        self._take(self._tail.read())

    def _take(self, words: list[Word]) -> None:
        for word in words:
            if not word.told:
                self.asked[word.what, word.id].append(word)
                continue
            self._late.append(word)
            self.told += 1
            if word.what == "signal":
                self.values[word.id].append((word.name, word.value))

    def check(self, book: Book) -> Iterator[str]:
        still: list[Word] = []
        for word in self._open:
            found = self._checks.get(word.what, self._noted)(word, book)
            if isinstance(found, str):
                yield f"{found}: {word}"
            elif not found:
                still.append(word)
        self._open = still
        for id in self.values:
            yield from self._check_received(id, book)

    # --- one by one: True when it is in a history for good, False when it waits, or what is wrong ---------------------

    def _started(self, word: Word, book: Book) -> bool | str:
        runs = book.runs.get(word.id)
        if not runs:
            return "a start was acknowledged, and there is no such execution"
        first = next(iter(input_of(runs[0]).values()), None)
        if runs[0].row.workflow != word.name or first != word.value:
            return f"a start was acknowledged, and the execution is {runs[0].row.workflow} with {input_of(runs[0])}"
        return True

    def _signalled(self, word: Word, book: Book) -> bool | str:
        text = _json(word.value)
        if any(event.data == text for event in book.events(word.id, Kind.SIGNAL_RECEIVED)):
            return True
        waits = any(
            (what == "signal" or kind == Kind.SIGNAL_RECEIVED) and data == text
            for what, kind, _, data in book.waiting(word.id)
        )
        return False if waits else "a signal was acknowledged, and is nowhere"

    def _noted(self, word: Word, book: Book) -> bool | str:
        """Look for the trace of a request. A closed execution needs none: it may have ended first, also if it was
        opened again."""
        kind = NOTED_AS[word.what]
        if word.what != "retry" and (book.closed(word.id) or word.id in book.reopened):
            return True
        if any(book.events(word.id, kind)):
            return True
        if any(what == word.what or at == kind for what, at, _, _ in book.waiting(word.id)):
            return False
        if word.what == "retry" and any(run.children for run in book.runs[word.id]):
            return True  # it may be refused while a child is still being cancelled
        return f"{word.what} was acknowledged, and is nowhere"

    def _completed(self, word: Word, book: Book) -> bool | str:
        num, seq, attempt = (int(part) for part in word.id.split(".")[:3])
        entry = book.by_num.get(num)
        if entry is None:
            return "a completion was acknowledged, and there is no such execution"
        done = book.activities[entry.row.id, entry.row.run, seq]
        if entry.row.status.closed or done.ends or done.last_attempt > attempt:  # that attempt was given up
            return True
        waits = any(row.what == "complete" or (row.kind in ACTIVITY_ENDS and row.ref == seq) for row in entry.inbox)
        return False if waits else "a completion was acknowledged, and is nowhere"

    def _state(self, word: Word, book: Book) -> bool | str:
        text = _json(word.value)
        if any(event.name == word.name and event.data == text for event in book.events(word.id, Kind.STATE_SET)):
            return True
        return "readable state was shown that is not in the history"

    def _result(self, word: Word, book: Book) -> bool | str:
        newest = book.newest(word.id)
        event = closing(newest) if newest is not None else None
        if event is None or event.kind is not Kind.COMPLETED or msgspec.json.decode(event.data or "") != word.value:
            return f"a result was given, and the history ends with {event}"
        return True

    def _error(self, word: Word, book: Book) -> bool | str:
        newest = book.newest(word.id)
        event = closing(newest) if newest is not None else None
        if word.id in book.reopened:
            return True
        if event is None or event.kind not in (Kind.FAILED, Kind.CANCELLED, Kind.TERMINATED):
            return f"an error was given, and the history ends with {event}"
        return True

    # --- signals as a whole -------------------------------------------------------------------------------------------

    def _check_received(self, id: str, book: Book) -> Iterator[str]:
        """Every number arrives once, in the order of its sender, and none that nobody sent."""
        received = [msgspec.json.decode(event.data or "") for event in book.events(id, Kind.SIGNAL_RECEIVED)]
        if len(received) == self._received.get(id):
            return
        self._received[id] = len(received)
        if len(set(received)) != len(received):
            yield f"{id} received a signal twice: {received}"
        senders = {word.value: word.name for word in self.asked["signal", id]}
        by_sender: dict[str, list[int]] = defaultdict(list)
        for value in received:
            if value in senders:
                by_sender[senders[value]].append(value)
            elif value >= 0:
                yield f"{id} received {value}, which nobody sent"
        for sender, values in by_sender.items():
            if values != sorted(values):
                yield f"{id} received the numbers of {sender} out of order: {values}"
