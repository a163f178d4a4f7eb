"""What a test has planned for later: actions of the world outside, at virtual instants."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any


class Agenda:
    """Actions in the order of their times, which are seconds on the virtual clock; equal ones in the order in which
    they were planned."""

    def __init__(self) -> None:
        self._planned: list[tuple[float, int, Callable[[], Any]]] = []
        self._count = itertools.count()

    def plan(self, at: float, action: Callable[[], Any]) -> None:
        heapq.heappush(self._planned, (at, next(self._count), action))

    @property
    def next_at(self) -> float | None:
        return self._planned[0][0] if self._planned else None

    def take(self, now: float) -> Callable[[], Any] | None:
        """Give the next action that is due, and forget it; None if there is none."""
        return heapq.heappop(self._planned)[2] if self._planned and self._planned[0][0] <= now else None
