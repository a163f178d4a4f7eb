"""What a store keeps, as the engine holds it. Instants are microseconds since 1970."""

from __future__ import annotations

from enum import IntEnum
from typing import NamedTuple

from perdure.types import Status


class ExecutionRow:
    """One execution's row. `num` is the store's own key, 0 until the transaction that inserts it has run.

    Mutable: the runner changes `status`, `ended_at` and `problem` and names the row in its next batch.
    """

    __slots__ = (
        "created_at", "deadline_at", "deployment", "ended_at", "id", "num", "parent", "parent_row", "parent_seq",
        "problem", "run", "status", "workflow",
    )  # fmt: skip

    def __init__(
        self,
        id: str,
        workflow: str,
        created_at: int,
        *,
        num: int = 0,
        run: int = 1,
        status: Status = Status.PENDING,
        ended_at: int | None = None,
        parent: int | None = None,
        parent_row: ExecutionRow | None = None,
        parent_seq: int | None = None,
        deadline_at: int | None = None,
        deployment: str | None = None,
        problem: str | None = None,
    ) -> None:
        self.num = num
        self.id = id
        self.run = run
        self.workflow = workflow
        self.status = status
        self.created_at = created_at
        self.ended_at = ended_at
        self.parent = parent
        self.parent_row = parent_row
        """The parent while it may not have its `num` yet; wins over `parent`."""
        self.parent_seq = parent_seq
        """The event of the parent that started this child."""
        self.deadline_at = deadline_at
        self.deployment = deployment
        self.problem = problem

    @property
    def parent_num(self) -> int | None:
        return self.parent_row.num if self.parent_row is not None else self.parent


class Purpose(IntEnum):
    """What a timer does when it is due. The numbers are stored."""

    SLEEP = 0
    """Fires the workflow's timer `seq`."""
    RETRY = 1
    """Starts the next attempt of activity `seq`."""
    DEADLINE = 2
    """Ends the execution; `seq` is 0."""
    ACTIVITY_TIMEOUT = 3
    """Fails activity `seq`: its total time is over."""


class TimerRow(NamedTuple):
    due_at: int
    execution: int
    seq: int
    purpose: int


class Backoff(NamedTuple):
    """An activity that waits for its next attempt."""

    id: str
    run: int
    seq: int
    activity: str
    due_at: int


class Backlog(NamedTuple):
    """Work that a runner should have taken by now, and what waits for something else. For people."""

    pending: int
    """Executions that were created and not begun."""
    running: int
    requests: int
    """Entries of the inbox that nothing holds back."""
    overdue: int
    """Timers that are due."""
    oldest_at: int | None
    """Since when the oldest of these waits, `running` left out."""
    outside: int
    """Executions that only a signal or a completion from outside can wake."""
    backoffs: list[Backoff]
    """The longest waits for a next attempt, longest first."""


class InboxRow(NamedTuple):
    """A request from another process, or an input that a paused or blocked execution could not take yet."""

    n: int
    execution: int
    what: str
    """`signal`, `cancel`, `terminate`, `pause`, `resume`, `retry`, `complete`, `fail`, or `event` with `kind`."""
    kind: int | None
    ref: int | None
    name: str | None
    data: str | None
    problem: str | None = None
    """Why `data` could not be read: a wrong key. The row stays until someone who has the right one runs."""
