"""Checks the invariants after every commit, against shadows of all executions that live outside the database.

Numbers are those of the invariants in `docs/design.md`; 0 is a rule of the projections or of the simulation itself.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import apsw

from perdure.events import Event, Kind
from perdure.replay.history import effective
from perdure.types import Status
from simulation.disk import Change, SimulatedStore
from simulation.process import Process
from simulation.scheduler import Scheduler
from simulation.shadow import Shadow
from simulation.timeline import Timeline

_ENDED = (Kind.ACTIVITY_COMPLETED, Kind.ACTIVITY_FAILED, Kind.ACTIVITY_CANCELLED)


class Violation(Exception):
    """An invariant does not hold."""


class Auditor:
    """See the module."""

    def __init__(self, scheduler: Scheduler, timeline: Timeline) -> None:
        self.scheduler = scheduler
        self.timeline = timeline
        self.shadows: dict[int, Shadow] = {}
        self.newest: dict[str, Shadow] = {}
        self.epoch = 0
        self.commits = 0
        self.events = 0
        self.requests: dict[tuple[str, str, str | None], int] = {}
        """Requests that were ever in the inbox: (id, what, data) to how many."""
        self.leader: Process | None = None
        self.tally: set[str] = set()
        """Idempotency keys of transactional activities whose row is in the file."""
        self.proofs: set[tuple[int, int]] = set()
        """Activities of which the file ever said that an attempt starts, (execution, seq)."""

    def demand(self, holds: bool, text: str, invariant: int) -> None:
        if not holds:
            raise_ = f"invariant {invariant}: {text}"

            def fail() -> None:
                raise Violation(raise_)

            self.scheduler.call(fail)

    # --- commits ------------------------------------------------------------------------------------------------------

    def committed(self, store: SimulatedStore, changes: list[Change]) -> None:
        """Take in one commit and check what it leaves. In the hub."""
        self.commits += 1
        if not changes:
            return
        touched: dict[int, None] = {}
        rows: list[tuple[str, bool]] = []
        for change in changes:
            num = self._apply(store.process, change, rows)
            if num is not None:
                touched[num] = None
        self._check_writer(store, changes)
        for num in touched:
            shadow = self.shadows[num]
            earlier = shadow.before
            self.demand(earlier is None or earlier.status.closed, f"{shadow.id} has two open runs", 6)
            problem = shadow.follow() or shadow.problem() or self._problem_of_family(shadow)
            self.demand(not problem, f"{shadow} {problem}", 4 if "replay" in problem else 0)
        self._check_tally(changes, rows)

    def _apply(self, process: Process, change: Change, rows: list[tuple[str, bool]]) -> int | None:
        """Bring the shadows up to date; give the execution that was touched."""
        match change.table.removeprefix("perdure_"):
            case "event":
                return self._event(process, change)
            case "execution":
                return self._execution(process, change)
            case "timer":
                return self._member(self._shadow(change, 1).timers, change)
            case "state":
                return self._entry(self._shadow(change, 0).state, change, 1, 2)
            case "heartbeat":
                if change.after is not None:
                    self.proofs.add(change.after[:2])
                return self._entry(self._shadow(change, 0).beats, change, 1, None)
            case "inbox":
                return self._inbox(process, change)
            case "meta":
                self._meta(process, change)
            case "tally":
                self.demand(change.before is None, f"a row of a transactional activity was lost: {change}", 7)
                rows.append((str((change.after or "")[0]), True))
        return None

    def _shadow(self, change: Change, column: int) -> Shadow:
        row = change.after or change.before
        assert row is not None
        shadow = self.shadows.get(row[column])
        self.demand(shadow is not None, f"a row without an execution: {change}", 0)
        assert shadow is not None
        return shadow

    def _event(self, process: Process, change: Change) -> int:
        self.demand(change.before is None, f"an event was changed or deleted: {change}", 1)
        shadow = self._shadow(change, 0)
        shadow.append(change)
        self.events += 1
        event = shadow.events[-1]
        self.timeline.note(process, "event", (str(shadow), event))
        if event.kind is Kind.ACTIVITY_FAILED and ":AttemptInterrupted" in (event.data or ""):
            ran = (shadow.num, event.ref) in self.proofs
            self.demand(ran, f"{shadow} is told that #{event.ref} was interrupted, and it never started", 3)
        return shadow.num

    def _execution(self, process: Process, change: Change) -> int:
        row = change.after
        self.demand(row is not None, f"an execution was deleted: {change}", 1)
        assert row is not None
        if change.before is None:
            before = self.newest.get(row[1])
            self.demand(row[2] == (1 if before is None else before.number + 1), f"{row[1]} has run {row[2]}", 0)
            self.shadows[row[0]] = self.newest[row[1]] = Shadow(row, before)
        else:
            shadow = self.shadows[row[0]]
            blocks = row[4] == Status.BLOCKED and shadow.status is not Status.BLOCKED
            self.demand(not (blocks and process.is_current), f"{shadow} is blocked: {row[11]}", 4)
            shadow.was_blocked = shadow.status is Status.BLOCKED or not process.is_current
            shadow.row = row
        self.timeline.note(process, "status", f"{row[1]} (run {row[2]}) {row[4]}")
        num: int = row[0]
        return num

    def _member(self, members: set[tuple[int, int, int]], change: Change) -> int:
        row = change.after or change.before
        assert row is not None
        due_at, num, seq, purpose = row
        if change.after is not None:
            members.add((due_at, seq, purpose))
        else:
            members.discard((due_at, seq, purpose))
        return int(num)

    def _entry(self, entries: dict[Any, Any], change: Change, key: int, value: int | None) -> int:
        row = change.after or change.before
        assert row is not None
        if change.after is None:
            del entries[row[key]]
        else:
            entries[row[key]] = row if value is None else row[value]
        return int(row[0])

    def _inbox(self, process: Process, change: Change) -> int | None:
        row = change.after or change.before
        assert row is not None
        shadow = self.shadows[row[1]]
        if change.before is not None:
            before = self.shadows[change.before[1]]
            del before.parked[row[0]]
        if change.after is not None:
            shadow.parked[row[0]] = row
            if row[3] == Kind.TIMER_FIRED:
                shadow.fired.add(row[4])
        if change.before is None:
            key = (shadow.id, row[2], row[6] if row[2] == "signal" else None)
            self.requests[key] = self.requests.get(key, 0) + 1
            self.timeline.note(process, "inbox", f"{shadow} {row[2]} {row[3] or ''} {row[6] or ''}")
        return shadow.num

    def _meta(self, process: Process, change: Change) -> None:
        assert change.after is not None
        key, value = change.after
        if key == "runner_epoch":
            self.demand(value == self.epoch + 1, f"epoch {value} follows {self.epoch}", 6)
            self.epoch, self.leader = value, process
            self.timeline.note(process, "leads", f"epoch {value}")

    def _check_writer(self, store: SimulatedStore, changes: Iterable[Change]) -> None:
        """Only the runner of the newest epoch may do more than ask."""
        if store.writer.epoch == self.epoch:
            return
        asking = {"perdure_inbox", "perdure_execution", "perdure_event", "perdure_meta"}
        for change in changes:
            asks = change.table in asking and (change.before is None or change.table == "perdure_meta")
            if change.table == "perdure_event" and change.after is not None:
                asks = change.after[2] == Kind.STARTED and change.after[1] == 1
            self.demand(asks, f"{store.process} is not the runner (epoch {store.writer.epoch}) and wrote {change}", 6)

    def _problem_of_family(self, shadow: Shadow) -> str:
        """Give what is wrong between an execution and its parent and children."""
        if shadow.closing is None:
            return ""
        parent = self.shadows.get(shadow.row[7] or 0)
        if parent is not None and parent.closing is None and parent.waits_for(shadow.row[8]):
            return f"has ended, and its parent {parent} was not told"
        for child in [s for s in self.shadows.values() if s.row[7] == shadow.num and s.closing is None]:
            started = shadow.events[child.row[8] - 1].data or ""
            if '"on_parent_end":"abandon"' not in started and not child.told(Kind.CANCEL_REQUESTED):
                return f"has ended, and its child {child} was not cancelled"
        return ""

    def _check_tally(self, changes: Iterable[Change], rows: list[tuple[str, bool]]) -> None:
        """A transactional activity's row and its end in the log come in the same commit."""
        for key, _ in rows:
            self.demand(key not in self.tally, f"{key} took effect twice", 7)
            self.tally.add(key)
        done = set()
        for change in changes:
            if change.table == "perdure_event" and change.after is not None:
                num, _, kind, _, ref = change.after[:5]
                shadow = self.shadows[num]
                if kind == Kind.ACTIVITY_COMPLETED and shadow.events[ref - 1].name == "do_in_transaction":
                    done.add(f"{shadow.id}:{shadow.number}:{ref}")
            elif change.table == "perdure_inbox" and change.after is not None and change.after[3] == 3:
                shadow = self.shadows[change.after[1]]
                if shadow.events[change.after[4] - 1].name == "do_in_transaction":
                    done.add(f"{shadow.id}:{shadow.number}:{change.after[4]}")
        missing = {key for key, _ in rows} - done
        self.demand(not missing, f"rows of transactional activities without their end: {missing}", 7)

    # --- attempts -----------------------------------------------------------------------------------------------------

    def attempt_starts(self, process: Process, call: str, number: int, returned: tuple[int, int] | None) -> None:
        """Check an attempt that begins: its schedule is in the file, and unless the process was replaced, it is due."""
        shadow, seq = self._of_call(call)
        event = shadow.events[seq - 1] if shadow is not None and len(shadow.events) >= seq else None
        scheduled = event is not None and event.kind is Kind.ACTIVITY_SCHEDULED
        self.demand(scheduled, f"attempt {number} of {call} starts, and its schedule is not in the file", 3)
        assert shadow is not None
        if process is not self.leader or process.is_committing:  # then it does not know yet what is in the file
            return
        answers = [event for event in effective(shadow.events) if event.ref == seq]
        ended = next((event for event in answers if event.kind in _ENDED), None)
        self.demand(ended is None, f"attempt {number} of {call} starts, and it has ended: {ended}", 3)
        self.demand(shadow.closing is None, f"attempt {number} of {call} starts, and its execution has ended", 3)
        failed = sum(event.kind is Kind.ATTEMPT_FAILED for event in answers)
        self.demand(number == failed + 1, f"attempt {number} of {call} starts after {failed} that failed", 3)
        lost = returned is not None and returned == (number - 1, self.epoch)
        self.demand(not lost, f"attempt {number} of {call} starts, and the one before had returned", 7)

    def _of_call(self, call: str) -> tuple[Shadow | None, int]:
        """Find the run and the schedule that an idempotency key names."""
        id, run, seq = call.rsplit(":", 2)
        shadow = self.newest.get(id)
        while shadow is not None and shadow.number != int(run):
            shadow = shadow.before
        return shadow, int(seq)

    def stopped(self, call: str) -> int:
        """Give how many attempts of a call were stopped by an engine that closed in order."""
        shadow, seq = self._of_call(call)
        notes = [event for event in shadow.events if event.ref == seq] if shadow is not None else []
        return sum('"reason":"stopped"' in (n.data or "") for n in notes if n.kind is Kind.ATTEMPT_FAILED)

    def reopened(self, id: str) -> int:
        """Give how often an execution was reopened."""
        shadow = self.newest.get(id)
        return 0 if shadow is None else shadow.count(Kind.REOPENED)

    # --- the whole file -----------------------------------------------------------------------------------------------

    def compare(self, connection: apsw.Connection) -> None:
        """Read the whole file and compare it with the shadows: nothing came or went without a commit."""
        stored: dict[int, list[Event]] = {}
        for num, seq, kind, at, ref, name, data in connection.execute(
            "SELECT execution, seq, kind, at, ref, name, data FROM perdure_event ORDER BY execution, seq"
        ):
            stored.setdefault(num, []).append(Event(seq, Kind(kind), at, ref, name, data))
        known = {num: shadow.events for num, shadow in self.shadows.items() if shadow.events}
        self.demand(stored == known, "the events in the file are not those that were committed", 1)
        rows = {row[0]: row for row in connection.execute("SELECT * FROM perdure_execution")}
        self.demand(rows == {num: s.row for num, s in self.shadows.items()}, "executions differ from commits", 1)
        timers = set(connection.execute("SELECT execution, due_at, seq, purpose FROM perdure_timer"))
        mine = {(num, *timer) for num, shadow in self.shadows.items() for timer in shadow.timers}
        self.demand(timers == mine, f"timers differ from commits: {timers ^ mine}", 0)
        tally = {row[0] for row in connection.execute("SELECT call FROM tally")}
        self.demand(tally == self.tally, f"effects differ from commits: {tally ^ self.tally}", 7)
