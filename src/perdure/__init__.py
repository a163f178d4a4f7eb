"""perdure: durable workflows for Python whose whole state is one SQLite file.

Decorate ordinary functions with `workflow` and `activity`, open an `Engine` on a file, start executions. See `docs/`.
"""

from __future__ import annotations

from perdure.activity import Activity, Attempt, activity, current_attempt
from perdure.client import Client, Execution
from perdure.engine.engine import Engine
from perdure.errors import NonDeterminismError, PerdureError
from perdure.replay import Call
from perdure.retry import Retry
from perdure.saga import Saga
from perdure.store import Filter, Transaction
from perdure.types import Conflict, ExecutionInfo, Status
from perdure.workflow import (
    Signal,
    Workflow,
    continue_as_new,
    execution_id,
    now,
    patched,
    random,
    sleep,
    state,
    uuid4,
    workflow,
)

__version__ = "0.1.0"

__all__ = [
    "Activity",
    "Attempt",
    "Call",
    "Client",
    "Conflict",
    "Engine",
    "Execution",
    "ExecutionInfo",
    "Filter",
    "NonDeterminismError",
    "PerdureError",
    "Retry",
    "Saga",
    "Signal",
    "Status",
    "Transaction",
    "Workflow",
    "activity",
    "continue_as_new",
    "current_attempt",
    "execution_id",
    "now",
    "patched",
    "random",
    "sleep",
    "state",
    "uuid4",
    "workflow",
]
