"""The world's doorbells: rings reach the other processes a little later, late, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from simulation.process import Process

if TYPE_CHECKING:
    from perdure.store.sqlite.doorbell import Role


class Bells:
    """All bells of one file. `delay` draws how late a ring comes, None when it is lost."""

    def __init__(self, delay: Callable[[], float | None]) -> None:
        self.delay = delay
        self.listening: list[Bell] = []
        self.made = 0


class Bell:
    """One process's end; does what `Doorbell` does."""

    def __init__(self, bells: Bells, process: Process) -> None:
        self.bells = bells
        self.process = process
        self.role: Role | None = None
        self.fd: int | None = None
        process.resources.append(self)

    def listen(self, role: Role) -> int:
        self.bells.made += 1
        self.role, self.fd = role, self.bells.made
        self.bells.listening.append(self)
        return self.fd

    def answer(self) -> None:
        return

    def ring(self, role: Role) -> int:
        others = [bell for bell in self.bells.listening if bell.role == role and bell is not self]
        for bell in others if self.process.alive else ():
            delay = self.bells.delay()
            if delay is not None:
                self.process.scheduler.after(delay, bell._rung)
        return len(others)

    def close(self) -> None:
        self.fd = None
        if self in self.bells.listening:
            self.bells.listening.remove(self)

    def taken_back(self) -> None:
        self.close()

    def _rung(self) -> None:
        if self.fd is not None:
            self.process.loop.readable(self.fd)
