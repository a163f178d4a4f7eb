"""Stores: where executions, their events and everything derived from them are kept.

`protocol.py` says what any store does, `batch.py` what one transaction writes, `rows.py` what comes back. `sqlite/`
is the store of one file. Backends never import each other; SQL is nowhere else.
"""

from __future__ import annotations

from perdure.store.batch import Batch, Parked
from perdure.store.protocol import Filter, Store, Transaction
from perdure.store.rows import Backlog, ExecutionRow, InboxRow, Purpose, TimerRow

__all__ = [
    "Backlog",
    "Batch",
    "ExecutionRow",
    "Filter",
    "InboxRow",
    "Parked",
    "Purpose",
    "Store",
    "TimerRow",
    "Transaction",
]
