"""Where a lease stands, and the errors of those who want it."""

from __future__ import annotations

from enum import StrEnum

from perdure.errors import PerdureError, StaleRunner


class LeaseState(StrEnum):
    """See the diagram in `lease.py`."""

    IDLE = "idle"
    WAITING = "waiting"
    HELD = "held"
    DOUBTFUL = "doubtful"
    LOST = "lost"
    RELEASED = "released"


class LeaseHeld(PerdureError):
    """Another process has the lease, and kept it for as long as was waited."""

    hint = "stop that process, or wait: a lease ends by itself when its holder is silent for its ttl"


class LeaseLost(StaleRunner):
    """Another process has the lease, or may have it: nothing may be committed any more."""
