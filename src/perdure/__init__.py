"""perdure: durable workflows for Python whose whole state is one SQLite file.

Decorate ordinary functions with `workflow` and `activity`, open an `Engine` on a file, start executions. See `docs/`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from perdure.activity import Activity, Attempt, activity, current_attempt
from perdure.errors import NonDeterminismError, PerdureError
from perdure.replay import Call
from perdure.retry import Retry
from perdure.saga import Saga
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

if TYPE_CHECKING:
    from perdure.client import Client, Execution
    from perdure.engine.engine import Engine
    from perdure.store import Filter, Transaction

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

_WHEN_ASKED = {
    "Client": "perdure.client",
    "Engine": "perdure.engine.engine",
    "Execution": "perdure.client",
    "Filter": "perdure.store",
    "Transaction": "perdure.store",
}
"""What a module that only defines workflows does not need, and where it is: imported on first use."""


def __getattr__(name: str) -> Any:
    if name not in _WHEN_ASKED:
        raise AttributeError(f"module 'perdure' has no attribute {name!r}")
    globals()[name] = value = getattr(import_module(_WHEN_ASKED[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
