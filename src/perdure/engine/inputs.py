"""What reaches the runner. Each is handled in order, inside the next batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from perdure.engine.attempt import Attempt
from perdure.errors import TransactionLost
from perdure.events import Kind
from perdure.store import ExecutionRow
from perdure.types import Conflict


class Start(msgspec.Struct, eq=False):
    """Start a workflow. The reply is the `ExecutionRow`, after the commit."""

    workflow: str
    data: str
    id: str
    conflict: Conflict
    timeout_us: int | None
    new: bool
    """The id was made up for it, so there is nothing to look for under it."""
    reply: asyncio.Future[ExecutionRow] | None = None


class Begin(msgspec.Struct, eq=False):
    """Run a pending execution's first code; or look at one again that was running or blocked when the runner
    started, or that was reopened after it had failed."""

    row: ExecutionRow


class Deliver(msgspec.Struct, eq=False):
    """An input event for one execution. `inbox` is the inbox row that it came in, to be removed with it."""

    row: ExecutionRow
    kind: Kind
    ref: int | None = None
    name: str | None = None
    data: str | None = None
    inbox: int | None = None
    reply: asyncio.Future[None] | None = None


class Request(msgspec.Struct, eq=False):
    """What people ask of one execution: `cancel`, `terminate`, `pause`, `resume`, `retry`, `complete`, `fail`."""

    row: ExecutionRow
    what: str
    name: str | None = None
    data: str | None = None
    inbox: int | None = None
    reply: asyncio.Future[None] | None = None


class AttemptDone(msgspec.Struct, eq=False):
    """An attempt ended: its result as JSON, or what it raised (`FinishLater` defers it)."""

    attempt: Attempt
    number: int
    outcome: str | BaseException
    log: str | None = None


class AttemptStarts(msgspec.Struct, eq=False):
    """An attempt has its place and is about to run; `go` lets it, once the file says so."""

    attempt: Attempt
    number: int
    go: Callable[[], object]


class TransactionDue(msgspec.Struct, eq=False):
    """Run a transactional activity inside the batch that records its result. `lost` is set when it ran before and took
    the batch with it."""

    attempt: Attempt
    number: int
    lost: TransactionLost | None = None


Input = Start | Begin | Deliver | Request | AttemptDone | AttemptStarts | TransactionDue


def row_of(item: Begin | Deliver | Request | AttemptDone | AttemptStarts | TransactionDue) -> ExecutionRow:
    """Give the execution that an input is for."""
    return item.row if isinstance(item, Begin | Deliver | Request) else item.attempt.live.row
