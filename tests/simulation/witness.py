"""Checks what callers were told: it is in the file. What they were refused is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from perdure.events import CLOSING, Event, Kind
from perdure.types import Status
from simulation.auditor import Auditor


class Witness:
    """See the module; called right after a caller got its answer."""

    def __init__(self, auditor: Auditor) -> None:
        self.auditor = auditor

    def told_started(self, id: str) -> None:
        self.auditor.demand(id in self.auditor.newest, f"a caller was told that {id} has started", 2)

    def told_signal(self, id: str, value: str) -> None:
        data = msgspec.json.encode(value).decode()
        here = (id, "signal", data) in self.auditor.requests or any(
            event.kind is Kind.SIGNAL_RECEIVED and event.data == data for event in self._events(id)
        )
        self.auditor.demand(here, f"a caller was told that {id} was sent {value}", 2)

    def newest_run(self, id: str) -> int:
        shadow = self.auditor.newest.get(id)
        return 0 if shadow is None else shadow.number

    def told_request(self, id: str, since: int, what: str, kind: Kind) -> None:
        """Check that the run that was the newest when this was asked for, or one after it, was told or has ended before
        it came to that."""
        runs = [s for s in self.auditor.shadows.values() if s.id == id and s.number >= since]
        there = any(run.closing is not None or run.told(kind) for run in runs)
        done = (
            there or (id, what, None) in self.auditor.requests or any(event.kind is kind for event in self._events(id))
        )
        self.auditor.demand(done, f"a caller was told that {id} takes {what}", 2)

    def told_stale(self, sealed: str) -> None:
        num, seq, number, digest = sealed.split(".")
        shadow = self.auditor.shadows[int(num)]
        note = shadow.notes.get(int(seq))
        if shadow.closing is None and note is not None and note.kind is Kind.ATTEMPT_DEFERRED:
            left = msgspec.json.decode(note.data or "{}")
            waits = int(seq) in shadow.open_activities()
            good = waits and (left["attempt"], left["secret"]) == (int(number), digest)
            self.auditor.demand(
                not good, f"a caller was told that the token of {shadow} #{seq} is stale, and it is not", 2
            )

    def told_end(self, id: str, status: Status, data: str | None) -> None:
        ends = [event for event in self._events(id) if event.kind in CLOSING]
        found = any(event.data == data or status is not Status.COMPLETED for event in ends)
        self.auditor.demand(found, f"a caller was told that {id} has {status} with {data}", 2)

    def told_state(self, id: str, state: dict[str, Any]) -> None:
        shadow = self.auditor.newest[id]
        committed = {key: msgspec.json.decode(data) for key, data in shadow.state.items()}
        self.auditor.demand(state == committed, f"read state {state} of {shadow}, and it is {committed}", 2)

    def refused_signal(self, id: str, value: str) -> None:
        """Check that what a caller was refused is not in the file all the same."""
        data = msgspec.json.encode(value).decode()
        there = any(event.kind is Kind.SIGNAL_RECEIVED and event.data == data for event in self._events(id))
        self.auditor.demand(
            not there and (id, "signal", data) not in self.auditor.requests, f"{id} refused {value} and has it", 2
        )

    def _events(self, id: str) -> Iterable[Event]:
        for shadow in self.auditor.shadows.values():
            if shadow.id == id:
                yield from shadow.events
