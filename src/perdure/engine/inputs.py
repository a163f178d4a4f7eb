"""What reaches the runner. Each is handled in order, inside the next batch."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from perdure.engine.attempt import Attempt
from perdure.errors import TransactionLost
from perdure.events import Kind
from perdure.store import ExecutionRow
from perdure.types import Conflict


@dataclass(slots=True)
class Start:
    """Start a workflow. The reply is the `ExecutionRow`, after the commit."""

    workflow: str
    data: str
    id: str
    conflict: Conflict
    timeout_us: int | None
    new: bool
    """The id was made up for it, so there is nothing to look for under it."""
    reply: asyncio.Future[ExecutionRow] | None = None


@dataclass(slots=True)
class Begin:
    """Run a pending execution's first code; or look at one again that was running or blocked when the runner
    started, or that was reopened after it had failed."""

    row: ExecutionRow


@dataclass(slots=True)
class Deliver:
    """An input event for one execution. `inbox` is the inbox row that it came in, to be removed with it."""

    row: ExecutionRow
    kind: Kind
    ref: int | None = None
    name: str | None = None
    data: str | None = None
    inbox: int | None = None
    reply: asyncio.Future[None] | None = None


@dataclass(slots=True)
class Request:
    """What people ask of one execution: `cancel`, `terminate`, `pause`, `resume`, `retry`, `complete`, `fail`."""

    row: ExecutionRow
    what: str
    name: str | None = None
    data: str | None = None
    inbox: int | None = None
    reply: asyncio.Future[None] | None = None


@dataclass(slots=True)
class AttemptDone:
    """An attempt ended: its result as JSON, or what it raised (`FinishLater` defers it)."""

    attempt: Attempt
    number: int
    outcome: str | BaseException
    log: str | None = None


@dataclass(slots=True)
class AttemptStarts:
    """An attempt has its place and is about to run; `go` lets it, once the file says so."""

    attempt: Attempt
    number: int
    go: Callable[[], object]


@dataclass(slots=True)
class TransactionDue:
    """Run a transactional activity inside the batch that records its result. `lost` is set when it ran before and took
    the batch with it."""

    attempt: Attempt
    number: int
    lost: TransactionLost | None = None


Input = Start | Begin | Deliver | Request | AttemptDone | AttemptStarts | TransactionDue
