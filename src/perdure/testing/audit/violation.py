"""What is wrong with a database."""

from __future__ import annotations

from typing import NamedTuple


class Violation(NamedTuple):
    """One thing that must not be. `id` and `run` name the execution, empty and 0 where it is about the whole file."""

    rule: str
    """`damage`, `rows`, `blobs`, `runs`, `history`, `status`, `timers`, `state`, `inbox`, `heartbeats`, `children` or
    `unreadable`."""
    id: str
    run: int
    detail: str

    def __str__(self) -> str:
        where = f" {self.id}, run {self.run}:" if self.id else ""
        return f"{self.rule}:{where} {self.detail}"
