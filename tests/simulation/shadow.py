"""One execution as the commits so far have made it: its rows, and its code replayed to the tip of its history.

Every commit's events are replayed on top of those before, each command compared with the recorded one. So after every
commit it is known that this prefix of the history replays, and what timers, state and activities it leads to; the
rows in the file must say the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from perdure.errors import NonDeterminismError
from perdure.events import CLOSING, INPUTS, Event, Kind
from perdure.replay import Run
from perdure.replay.history import effective
from perdure.store import Purpose
from perdure.types import Status, later
from simulation.disk import Change
from simulation.programs import Program
from simulation.workflows import WORKFLOWS

_CODE = {workflow.name: workflow for workflow in WORKFLOWS}
_STATUS = {
    Kind.COMPLETED: Status.COMPLETED,
    Kind.FAILED: Status.FAILED,
    Kind.CANCELLED: Status.CANCELLED,
    Kind.CONTINUED: Status.CONTINUED,
    Kind.TERMINATED: Status.TERMINATED,
}
_ENDS = (Kind.ACTIVITY_COMPLETED, Kind.ACTIVITY_FAILED)
_CHILD_ENDS = (Kind.CHILD_COMPLETED, Kind.CHILD_FAILED, Kind.CHILD_CANCELLED)
_FIRST = (Kind.INHERITED, Kind.STARTED)


class Shadow:
    """See the module. `before` is the run before of the same id."""

    def __init__(self, row: tuple[Any, ...], before: Shadow | None) -> None:
        self.before = before
        self.num: int = row[0]
        self.id: str = row[1]
        self.number: int = row[2]
        self.workflow: str = row[3]
        self.row = row
        self.events: list[Event] = []
        self.timers: set[tuple[int, int, int]] = set()
        """(due_at, seq, purpose)"""
        self.state: dict[str, str] = {}
        self.parked: dict[int, tuple[Any, ...]] = {}
        """Rows of the inbox by their `n`."""
        self.fired: set[int] = set()
        """Timers that fell due while it was held, perhaps by another process's clock."""
        self.beats: dict[int, tuple[Any, ...]] = {}
        self.notes: dict[int, Event] = {}
        """The newest note of each activity's attempts, by the seq of its schedule."""
        self.run = self._new_run()
        self.replayed = 0
        self.broken = ""
        self.was_blocked = False
        """Its code did not fit its history when its status changed last, or may not have."""
        self.began = 0
        """How many events it had when its code had first run; 0 before."""

    def __str__(self) -> str:
        return f"{self.id} (run {self.number})"

    @property
    def status(self) -> Status:
        return Status(self.row[4])

    @property
    def deadline_at(self) -> int | None:
        at: int | None = self.row[9]
        return at

    @property
    def closing(self) -> Event | None:
        return self.events[-1] if self.events and self.events[-1].kind in CLOSING else None

    @property
    def arguments(self) -> dict[str, Any]:
        """What it was started with."""
        started = next(event for event in self.events if event.kind is Kind.STARTED)
        arguments: dict[str, Any] = msgspec.json.decode(started.data or "{}")
        return arguments

    @property
    def program(self) -> Program:
        """What a `play` or `plain` workflow is to do."""
        program: Program = self.arguments["program"]
        return program

    def count(self, kind: Kind) -> int:
        return sum(event.kind is kind for event in self.events)

    def _new_run(self) -> Run:
        return Run(_CODE[self.workflow], self.id, self.number)

    # --- taking in a commit -------------------------------------------------------------------------------------------

    def append(self, change: Change) -> None:
        """Take a change of the events: only the next one may be added, and none after the end."""
        assert change.after is not None
        _, seq, kind, at, ref, name, data, _ = change.after
        event = Event(seq, Kind(kind), at, ref, name, data)
        if seq != len(self.events) + 1:
            self.broken = f"seq {seq} follows {len(self.events)}"
        elif self.closing is not None and event.kind is not Kind.REOPENED:
            self.broken = f"{event} after {self.closing}"
        elif self.events and at < self.events[-1].at:
            self.broken = f"{event} is older than {self.events[-1]}"
        elif (
            event.kind is Kind.TIMER_FIRED and ref not in self.fired and at < int(self.events[(ref or 0) - 1].data or 0)
        ):
            self.broken = f"{event} fired early: {self.events[(ref or 0) - 1]}"
        self.events.append(event)
        if event.kind in (Kind.ATTEMPT_FAILED, Kind.ATTEMPT_DEFERRED) and ref is not None:
            self.notes[ref] = event

    def follow(self) -> str:
        """Replay what is new; give what is wrong with it."""
        if self.broken:
            return self.broken
        fresh = self.events[self.replayed :]
        if any(event.kind is Kind.REOPENED for event in fresh):
            self.run.evict()
            self.run, self.replayed = self._new_run(), 0
            self.notes.clear()
            fresh = effective(self.events)
        if self.unanswered(fresh):
            return ""
        self.replayed = len(self.events)
        try:
            self.run.replay(fresh)
        except NonDeterminismError as error:
            return f"does not replay: {error}"
        if self.closing is not None:
            self.run.evict()
        return ""

    def unanswered(self, fresh: list[Event]) -> bool:
        """Say whether the newest input has not reached the code yet."""
        if len(fresh) > 1 and fresh[-2].kind is Kind.REOPENED and fresh[-1].kind in INPUTS:
            return True
        return self.status is Status.PENDING and all(event.kind in _FIRST for event in fresh)

    # --- what the rows must say ---------------------------------------------------------------------------------------

    def problem(self) -> str:
        """Compare the rows with the history; give the first difference, empty when there is none."""
        closing, status = self.closing, self.status
        if closing is not None:
            return self._problem_when_closed(closing)
        if self.deadline_at is not None and self.replayed > 1 and status not in (Status.PAUSED, Status.BLOCKED):
            late = self.events[-1].at > self.deadline_at and not self.told(Kind.TIMED_OUT)
            if late and self.began not in (0, len(self.events)):  # what it began with in one commit may be late
                return f"went on to {self.events[-1].at} though its time was up at {self.deadline_at}"
        self.began = self.began or self.replayed
        if status.closed or self.row[6] is not None:
            return f"is {status}, ended at {self.row[6]}, and its history has no end"
        if status is Status.BLOCKED or self.replayed < len(self.events) or self.events[-1].kind is Kind.REOPENED:
            return ""  # the runner is about to go on with it
        if status is not Status.PAUSED and status is not self._status():
            return f"is {status}, and by its history {self._status()}; open: {list(self.open_activities())}"
        if self.state != self.run.state:
            return f"has state {self.state}, and by its history {self.run.state}"
        return self._problem_of_timers() or self._problem_of_beats()

    def _problem_when_closed(self, closing: Event) -> str:
        if self.status is not _STATUS[closing.kind] or self.row[6] != closing.at:
            return f"is {self.status}, ended at {self.row[6]}, and its history ends with {closing}"
        if self.was_blocked and closing.kind is Kind.TERMINATED:
            return ""  # its timers are found when they are due
        if self.timers:
            return f"has ended and left timers {self.timers}"
        return f"has ended and left heartbeats {self.beats}" if self.beats else ""

    def _problem_of_timers(self) -> str:
        parked = {row[4] for row in self.parked.values() if row[3] == Kind.TIMER_FIRED}
        must = {(t.due_us, seq, int(Purpose.SLEEP)) for seq, t in self.run.loop.timers.items() if seq not in parked}
        may = set()
        for seq in self.open_activities():
            note = self.notes.get(seq)
            retry_at = None if note is None else msgspec.json.decode(note.data or "{}").get("retry_at")
            if retry_at is not None:
                may.add((retry_at, seq, int(Purpose.RETRY)))
            total_s = self.run.open[seq].target.defaults.total_timeout_s
            if total_s is not None and note is not None and note.kind is Kind.ATTEMPT_DEFERRED:
                must.add((later(self.events[seq - 1].at, total_s), seq, int(Purpose.ACTIVITY_TIMEOUT)))
        if self.deadline_at is not None and not self.told(Kind.TIMED_OUT):
            must.add((self.deadline_at, 0, int(Purpose.DEADLINE)))
        if missing := must - self.timers:
            return f"has no timers {missing}"
        extra = self.timers - must - may
        return f"has timers {extra} that its history does not have" if extra else ""

    def _problem_of_beats(self) -> str:
        extra = self.beats.keys() - set(self.open_activities(also_parked=True))
        return f"has heartbeats of activities {extra}, which are not open" if extra else ""

    def told(self, kind: Kind) -> bool:
        return self.count(kind) > 0 or any(row[3] == kind for row in self.parked.values())

    def waits_for(self, seq: int) -> bool:
        """Say whether the code waits for the child that event `seq` started, and is not about to hear of its end."""
        parked = {row[4] for row in self.parked.values() if row[3] in _CHILD_ENDS}
        return self.replayed == len(self.events) and seq in self.run.open and seq not in parked

    def open_activities(self, also_parked: bool = False) -> Iterator[int]:
        """Give the activities that have not ended, by the seq of their schedules."""
        ended = {row[4] for row in self.parked.values() if row[3] in _ENDS} if self.parked else ()
        for seq, call in self.run.open.items():
            if call.execution_id is None and (also_parked or seq not in ended):
                yield seq

    def _status(self) -> Status:
        return Status.RUNNING if any(map(self._is_active, self.open_activities())) else Status.WAITING

    def _is_active(self, seq: int) -> bool:
        note = self.notes.get(seq)
        if note is not None and note.kind is Kind.ATTEMPT_DEFERRED:
            return False
        return not any(timer[1] == seq and timer[2] == Purpose.RETRY for timer in self.timers)
