"""What any store does. The conformance suite (`tests/conformance`) runs against this protocol.

1. All verbs are synchronous. Writes come from one runner at a time, in `commit`; requests of other processes come
   through `request` and `create`. Reads see committed data only and never wait for a writer.
2. `commit` writes a batch whole or not at all, and refuses with `StaleRunner` once another process has become the
   runner.
3. Events come back in `seq` order, as they were appended.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any, Protocol

import msgspec

from perdure.events import Event
from perdure.store.batch import Batch, Parked
from perdure.store.rows import Backlog, ExecutionRow, InboxRow, TimerRow
from perdure.types import ExecutionInfo, HistoryEvent, Status


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """Which executions to list. Newest first; `after` is the `id` and `run` that the page before ended with."""

    workflow: str | None = None
    status: tuple[Status, ...] = ()
    id_prefix: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    parent_id: str | None = None
    after: tuple[str, int] | None = None
    limit: int = 100


class Transaction(Protocol):
    """What a transactional activity writes through: the runner's own open transaction on the same store."""

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] = ()) -> list[tuple[Any, ...]]:
        """Run one statement with parameters and give its rows. Transaction control and perdure's own tables are
        refused."""

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any] | Mapping[str, Any]]) -> None:
        """Run one statement once per set of parameters."""


class Store(Protocol):
    # --- the runner's ----------------------------------------------------------------------------------------------

    def become_runner(self, description: str) -> int:
        """Take over as the runner: from now on commits of runners before are refused. Give the new epoch.

        Raises `StoreError` when the store is damaged.
        """

    def commit(self, batch: Batch) -> None:
        """Write `batch` in one transaction; new rows have their `num` afterwards.

        Raises `ExecutionExists` when an (id, run) is taken, or one that is reopened is not the newest run any more."""

    def confirm(self) -> None:
        """Raise `StaleRunner` once another process has become the runner."""

    def savepoint(self) -> AbstractContextManager[Transaction]:
        """Open the next commit's transaction early for a transactional activity; undone alone if the block raises.

        Raises `TransactionLost` when the block rolled back the whole of it."""

    def rollback(self) -> None:
        """Give up what `savepoint` blocks wrote since the last commit."""

    def unfinished(self) -> list[ExecutionRow]:
        """Give every pending, running or blocked execution, oldest first: what a new runner looks at."""

    def pending(self, limit: int) -> list[ExecutionRow]:
        """Give executions that were created and not begun, oldest first."""

    def due_timers(self, now: int, limit: int) -> list[TimerRow]:
        """Give timers that are due, earliest first."""

    def next_due(self) -> int | None:
        """Give the instant of the earliest timer."""

    def has_timer(self, timer: TimerRow) -> bool:
        """Say whether this timer is still to fire."""

    def inbox(self, after: int, limit: int) -> list[InboxRow]:
        """Give requests with `n` above `after`, in order."""

    def parked(self, num: int) -> list[InboxRow]:
        """Give what waits in the inbox for one execution, in order."""

    def heartbeat(self, num: int, seq: int) -> tuple[int, str | None] | None:
        """Give (attempt, details) of an activity's last heartbeat."""

    # --- anyone's ---------------------------------------------------------------------------------------------------

    def create(self, created: list[tuple[ExecutionRow, list[Event]]]) -> None:
        """Insert pending executions, each with its first events, all or none. Raises `ExecutionExists` when an (id,
        run) is taken."""

    def request(self, requests: list[Parked]) -> None:
        """Put requests for the runner into the inbox."""

    def find(self, id: str) -> ExecutionRow | None:
        """Give the newest run with this id."""

    def ending(self, id: str) -> tuple[ExecutionRow, Event | None] | None:
        """Give the newest run with this id and its last event, as of one instant."""

    def get(self, num: int) -> ExecutionRow | None: ...

    def children(self, num: int) -> list[ExecutionRow]:
        """Give the children that an execution started, closed ones too."""

    def history(self, num: int) -> list[Event]:
        """Give all events of an execution."""

    def first_input(self, num: int) -> str | None:
        """Give the data of its STARTED event; of one that continued as new, that of the first run."""

    def last_event(self, num: int) -> Event | None: ...

    def state(self, num: int) -> dict[str, str]:
        """Give the readable state: JSON text by key."""

    # --- people's ---------------------------------------------------------------------------------------------------

    def list(self, filter: Filter) -> Sequence[ExecutionInfo]: ...

    def describe(self, id: str, run: int | None = None) -> ExecutionInfo | None: ...

    def events(self, id: str, run: int | None, after: int, limit: int) -> Sequence[HistoryEvent]:
        """Give events with `seq` above `after`, for reading."""

    def counts(self) -> dict[Status, int]: ...

    def backlog(self, now: int, backoff_after: int) -> Backlog:
        """Tell what waits at `now`; `backoffs` are those due later than `backoff_after`."""

    def expired(
        self, statuses: tuple[Status, ...], ended_before: int | None, keep: int | None, limit: int
    ) -> Sequence[tuple[int, str]]:
        """Give (num, id) of closed executions that retention may delete, oldest first. One whose parent is open is
        kept."""

    def delete(self, nums: Sequence[int]) -> int:
        """Delete closed executions whole, in one transaction; give how many. Open ones are skipped. A key is never
        given again, so a timer that is left over finds nothing when it is due, and the runner drops it."""

    def vacuum(self, pages: int) -> int:
        """Give up to `pages` free pages back to the file system; give how many are still free."""

    def checkpoint(self) -> None:
        """Move the whole log into the file and empty it. Raises `StoreBusy` when a reader keeps it in use."""

    def left_in_log(self) -> tuple[int, bytes] | None:
        """Give what lies behind the true end of the log, to be compared: a commit that is being made, or one whose
        process was killed. None for nothing."""

    def log_bytes(self) -> int:
        """Give the size of the log that is not in the file yet."""

    def check(self, quick: bool) -> Iterator[tuple[str, bool, str]]:
        """Check the store: (what, ok, detail) one by one."""

    def changed(self) -> int:
        """Give a number that differs once another connection has committed something."""

    def close(self) -> None: ...
