"""The whole check of a database."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from perdure.codec.payload import Codec, Payloads
from perdure.errors import StoreError
from perdure.replay.history import effective
from perdure.store.sqlite.contents import UNREADABLE, Contents, Entry, Unreadable
from perdure.store.target import database_path
from perdure.testing.audit.grammar import check_grammar
from perdure.testing.audit.projections import check_heartbeats, check_inbox, check_state, check_status, check_timers
from perdure.testing.audit.relations import check_children, check_run
from perdure.testing.audit.standing import Standing
from perdure.testing.audit.violation import Violation

_PROJECTIONS = {
    "status": check_status,
    "timers": check_timers,
    "state": check_state,
    "inbox": check_inbox,
    "heartbeats": check_heartbeats,
    "children": check_children,
}


def audit(database: str | Path, *, codec: Codec | None = None) -> list[Violation]:
    """Check the content of a database; give what is wrong with it, an empty list for a sound one.

    Every history is looked at for gaps and order, and every other table is compared with what the histories say. No
    workflow code runs (`check_replay` does that), and nothing is changed. A runner may be at work: what is read is of
    one moment. Raises `StoreError` for a file that is not there, not ours, of another version, or encoded while there
    is no codec.
    """
    with Contents(database_path(database), Payloads(codec)) as contents:
        return list(check_contents(contents))


def check_contents(contents: Contents, see: Callable[[Entry], None] = lambda entry: None) -> Iterator[Violation]:
    """Give what is wrong, one after the other. `see` is shown every run that can be read."""
    try:
        damage = contents.damage()
        yield from (Violation("damage", "", 0, line) for line in damage)
        if damage:
            return
        yield from _whole(contents)
        for entry in contents.entries():
            if isinstance(entry, Unreadable):
                yield Violation("unreadable", entry.name, 0, entry.problem)
            else:
                see(entry)
                yield from audit_entry(entry, contents)
    except StoreError as error:
        yield Violation("damage", "", 0, str(error))


def _whole(contents: Contents) -> Iterator[Violation]:
    for table, count in contents.orphans():
        yield Violation("rows", "", 0, f"{count} rows of perdure_{table} belong to no execution")
    for digest, says, used in contents.miscounted_blobs():
        yield Violation("blobs", "", 0, f"the blob {digest} says that it is used {says} times, and is {used} times")
    for id in contents.misplaced_runs():
        yield Violation("runs", id, 0, "a run is open that is not the newest")
    for id, run in contents.unfollowed():
        yield Violation("runs", id, run, "it continued, and the next run is missing")


def audit_entry(entry: Entry, contents: Contents | None = None) -> Iterator[Violation]:
    """Check one run; with `contents` also against the state of the run before."""
    row = entry.row
    try:
        problems = list(check_grammar(entry.events))
        yield from (Violation("history", row.id, row.run, problem) for problem in problems)
        if not entry.events:
            return
        standing = Standing(effective(entry.events))
        for rule, check in _PROJECTIONS.items():
            yield from (Violation(rule, row.id, row.run, problem) for problem in check(entry, standing))
        before = contents.state_before(entry) if contents is not None else None
        yield from (Violation("runs", row.id, row.run, problem) for problem in check_run(entry, before))
    except UNREADABLE as error:
        yield Violation("unreadable", row.id, row.run, f"{type(error).__name__}: {error}")
