"""Testing workflows: a simulated environment, exploring what can go wrong, replaying what was recorded.

See `docs/guides/testing.md`.
"""

from __future__ import annotations

from perdure.testing.audit import Violation, audit
from perdure.testing.calls import ActivityCall, Fault
from perdure.testing.environment import Environment
from perdure.testing.explore_report import ExplorationFailed, ExploreReport
from perdure.testing.exploring import explore
from perdure.testing.fakes import SimulationError, Stuck
from perdure.testing.outcome import Effect, Outcome
from perdure.testing.replay_report import ReplayReport
from perdure.testing.replaying import check_replay, save_histories

__all__ = [
    "ActivityCall",
    "Effect",
    "Environment",
    "ExplorationFailed",
    "ExploreReport",
    "Fault",
    "Outcome",
    "ReplayReport",
    "SimulationError",
    "Stuck",
    "Violation",
    "audit",
    "check_replay",
    "explore",
    "save_histories",
]
