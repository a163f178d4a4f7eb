"""One look at a site: the invariants of the design against the ledgers outside the database.

    1, 6  an event never changes; `seq` has no gaps             the audit, and the histories of the look before
    2, 7  what a caller was told is on disk                     `crash_words.py`
    3     an activity starts after its schedule is committed    `crash_effects.py`
    4, 5  every prefix of a history replays                     `crash_replay.py`, and at the end `crash_outcomes.py`

Workers may run meanwhile: the database is read at one moment, the ledgers before it and after it.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from crash_book import Book
from crash_effects import Effects
from crash_outcomes import check_outcomes
from crash_replay import check_prefixes
from crash_site import Site
from crash_words import Words

from perdure.codec.payload import Payloads
from perdure.events import Kind
from perdure.store.sqlite.contents import Contents, Entry
from perdure.testing.audit.audit import check_contents
from perdure.types import Status


class Check:
    """See the module. Remembers what it saw, for the next look."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.effects = Effects(site.places)
        self.words = Words(site.places)
        self.book = Book()
        self.replayed = 0
        """Histories that were replayed, each at several prefixes."""
        self._choose = random.Random(site.seed)
        self._seen: dict[int, tuple[int, int]] = {}
        """By the key of a run: how many events it had, and their hash."""

    def look(self) -> list[str]:
        """Check everything; give what is wrong."""
        site, effects, words = self.site, self.effects, self.words
        found: list[str] = []
        book = Book()
        effects.read_before()
        words.read_before()
        with Contents(site.places.database, Payloads(site.codec)) as contents:
            found += map(str, check_contents(contents, book.add))
            tally = self._tally(contents)
        effects.read_after()
        words.read_after()
        found += self._check_seen(book)
        found += effects.check(book, site.dooms, site.endings, site.outlived)
        found += effects.check_tally(tally, book)
        found += words.check(book)
        found += self._check_statuses(book)
        found += site.complaints()
        self.book = book
        return found

    def finish(self) -> list[str]:
        """Check that everything has ended, and how."""
        found = list(check_outcomes(self.book, self.words, self.effects))
        for entry in self.book.by_num.values():
            left = {what: getattr(entry, what) for what in ("timers", "inbox", "heartbeats")}
            if any(left.values()) and entry.row.status is not Status.TERMINATED:
                found.append(f"{entry.row.id} has ended and left {left}")
        return found

    # --- figures ------------------------------------------------------------------------------------------------------

    @property
    def executions(self) -> int:
        return len(self.book.by_num)

    @property
    def steps(self) -> int:
        """How many activities completed."""
        return sum(done.completed for done in self.book.activities.values())

    # --- parts --------------------------------------------------------------------------------------------------------

    def _tally(self, contents: Contents) -> list[tuple[str, int]]:
        connection = contents.reader.connection
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'tally'").get:
            return []
        return list(connection.execute("SELECT execution, n FROM tally"))

    def _check_seen(self, book: Book) -> Iterator[str]:
        """Compare each history with what the look before saw of it, and replay it if it has grown."""
        for num, (count, digest) in self._seen.items():
            entry = book.by_num.get(num)
            if entry is None:
                yield f"execution {num} is gone"
            elif hash(tuple(entry.events[:count])) != digest:
                yield f"an event of {entry.row.id} was changed or deleted since the last look"
        for num, entry in book.by_num.items():
            known = self._seen.get(num)
            if known is None or known[0] != len(entry.events):
                self._seen[num] = (len(entry.events), hash(tuple(entry.events)))
                if entry.row.status is not Status.BLOCKED:
                    self.replayed += 1
                    yield from check_prefixes(entry, self._choose)

    def _check_statuses(self, book: Book) -> Iterator[str]:
        for entry in book.by_num.values():
            if entry.row.status is Status.BLOCKED:
                yield f"{entry.row.id} is blocked: {entry.row.problem}"
            for event in entry.events:
                if event.kind is Kind.ACTIVITY_FAILED and not _may_fail(entry, event.ref):
                    yield f"an activity of {entry.row.id} failed: {event}"


def _may_fail(entry: Entry, ref: int | None) -> bool:
    return entry.events[(ref or 0) - 1].name == "balk"
