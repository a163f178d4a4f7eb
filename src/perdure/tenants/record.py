"""What is known of one tenant. Of a closed one this is all that is in memory."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perdure.tenants.opened import Opened


class State(StrEnum):
    """What is done for a tenant just now."""

    CLOSED = "closed"
    OPENING = "opening"
    OPEN = "open"
    CLOSING = "closing"


class Tenant:
    """See the module. `due_at` is in microseconds since 1970, `retry_at` in seconds of the loop."""

    __slots__ = (
        "away", "due_at", "failures", "looked", "mark", "name", "opened", "problem", "request", "retry_at", "state",
        "wanted",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name = name
        self.state = State.CLOSED
        self.mark = 0
        """What its files looked like when it was looked into; 0: it has to be looked into."""
        self.looked = False
        """Whether it was looked into at all. At the first time what is blocked counts as well."""
        self.due_at: int | None = None
        self.request = 0
        """The newest request that its engine had read when it was closed."""
        self.wanted = False
        """Whether it is to be opened."""
        self.away = False
        """Whether it is in the bucket and not here yet."""
        self.opened: Opened | None = None
        self.problem: str | None = None
        self.failures = 0
        self.retry_at = 0.0

    def forgive(self) -> None:
        """Forget what was wrong with it."""
        self.problem, self.failures, self.retry_at = None, 0, 0.0

    @property
    def forgettable(self) -> bool:
        """Whether it may be forgotten when it has no file."""
        return self.state is State.CLOSED and not (self.wanted or self.away or self.problem)
