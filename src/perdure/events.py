"""The execution log: what an event is and which kinds there are.

An execution is a sequence of events, `seq` from 1 without gaps, append-only. Three families:

* **inputs** come from outside and drive the workflow code: its start, an activity's result, a timer that fired…
* **commands** are what the code did in answer to the input before them. Replay compares them.
* **notes** are for people and for the runner (a failed attempt, a pause). The code never sees them.

One input and the commands that it led to are always written in one transaction, so a recorded answer is complete.

`ref` is the `seq` of the event that this one answers (an activity's schedule, a timer's start). `data` is JSON
text. What `name` and `data` hold for each kind is said beside it below and, for users, in
`docs/reference/events.md`.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

LAST_SEQ = 2**24 - 1
"""No run has more events: the store has so many keys for each."""


class Kind(IntEnum):
    """What happened. The numbers are stored: never change or reuse one."""

    # inputs
    INHERITED = (
        1  # data {"state": {key: value}, "signals": [[name, value], …]}: from the run that continued as this one
    )
    STARTED = 2  # name workflow, data its arguments by name
    ACTIVITY_COMPLETED = 3  # ref, data the result
    ACTIVITY_FAILED = 4  # ref, data a failure: no attempt is left
    TIMER_FIRED = 5  # ref
    CHILD_COMPLETED = 6  # ref, data the result
    CHILD_FAILED = 7  # ref, data a failure
    CHILD_CANCELLED = 8  # ref
    SIGNAL_RECEIVED = 9  # name, data the value
    CANCEL_REQUESTED = 10  # data the reason or null
    TIMED_OUT = 11  # the execution's own deadline passed

    # notes
    ATTEMPT_FAILED = 20  # ref, data {"attempt", "error", "retry_at", "details"}
    ATTEMPT_DEFERRED = 21  # ref, data {"attempt", "secret"}: it will be completed from outside
    ATTEMPT_LOG = 22  # ref, name "stderr", data text
    PAUSED = 23  # data the reason or null
    RESUMED = 24
    REOPENED = 25  # data {"from_seq"}: events from there to here are superseded; a failed execution goes on
    TERMINATED = 26  # data the reason or null; closes

    # commands
    ACTIVITY_SCHEDULED = 40  # name activity, data its arguments by name
    ACTIVITY_CANCELLED = 41  # ref
    TIMER_STARTED = 42  # data when it is due, microseconds since 1970
    TIMER_CANCELLED = 43  # ref
    CHILD_STARTED = 44  # name workflow, data {"id", "args"}; and "on_parent_end": "abandon" where it is
    CHILD_CANCEL_REQUESTED = 45  # ref
    SIGNAL_SENT = 46  # name, data {"to", "value"}
    STATE_SET = 47  # name key, data the value; no data: the key was removed
    PATCHED = 48  # name patch id

    # commands that close
    COMPLETED = 60  # data the result
    FAILED = 61  # data a failure
    CANCELLED = 62  # data the reason or null
    CONTINUED = 63  # data the next run's arguments by name


INPUTS = frozenset(kind for kind in Kind if kind < 20)
NOTES = frozenset(kind for kind in Kind if 20 <= kind < 40)
COMMANDS = frozenset(kind for kind in Kind if kind >= 40)
CLOSING = frozenset({Kind.COMPLETED, Kind.FAILED, Kind.CANCELLED, Kind.CONTINUED, Kind.TERMINATED})


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event of one execution. `at` is microseconds since 1970, never smaller than that of the event before."""

    seq: int
    kind: Kind
    at: int
    ref: int | None = None
    name: str | None = None
    data: str | None = None

    def __str__(self) -> str:
        ref = f" of #{self.ref}" if self.ref is not None else ""
        name = f" {self.name}" if self.name else ""
        data = f" {self.data if len(self.data) <= 120 else self.data[:117] + '…'}" if self.data is not None else ""
        return f"#{self.seq} {self.kind.name.lower()}{ref}{name}{data}"
