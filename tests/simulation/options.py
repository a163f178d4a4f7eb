"""What one seed draws before anything runs: how many processes, which faults there are, and how often.

Not every seed has every fault: some bugs show only where others do not hide them.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field

KINDS = (
    "crash",  # a process is killed at any moment
    "die",  # a process is killed in the middle of a transaction, or before it hears that it was committed
    "fail",  # a transaction fails at any of its statements
    "outage",  # for a while no transaction succeeds: the disk is full
    "slow",  # a transaction takes long; the others go on
    "lost ring",
    "late ring",
    "skew",  # wall clocks differ
    "jump",  # a wall clock jumps, forward or back
    "stall",  # a process stands still for a moment
    "zombie",  # a process stands still while another takes its place, and goes on when it is not the runner any more
    "theft",  # the lock file is deleted: there are two who think that they are the runner
    "restart",  # a process closes in order, and another one opens
)


@dataclass
class Options:
    """See the module. `rates` are per transaction or ring for some kinds, per second for the others."""

    engines: int
    clients: int
    roots: int
    hot: int
    threads: int
    places: int
    deploys: bool
    """Some processes have the newest code, and some that before it."""
    storms: bool
    """Callers ask much of the same executions in the same moments."""
    apart: bool
    """Callers are in the clients, where there are any: then engines have nothing but their work to learn from."""
    safety_s: float
    faults: int
    """How many there may be: enough is enough, and every seed is to stay small."""
    rates: dict[str, float] = field(default_factory=dict)

    @property
    def rivals(self) -> bool:
        """Whether what failed is retried and replaced in the same moment. Decided by what is drawn anyway: one draw
        more would give all seeds another meaning."""
        return round(self.safety_s * 1e6) % 4 == 0

    @classmethod
    def draw(cls, dice: random.Random) -> Options:
        options = cls(
            engines=dice.choice([1, 2, 2, 3]),
            clients=dice.choice([0, 1, 1, 2]),
            roots=dice.randint(2, 6),
            hot=dice.choice([0, 1, 3, 10_000, 10_000]),
            threads=dice.choice([1, 2, 8]),
            places=dice.choice([1, 3, 1_000]),
            deploys=dice.random() < 0.3,
            storms=dice.random() < 0.3,
            apart=dice.random() < 0.3,
            safety_s=dice.uniform(2.0, 10.0),
            faults=dice.randint(1, 25),
        )
        for kind in KINDS:
            if dice.random() < 0.4:
                options.rates[kind] = 10 ** (dice.uniform(-1.0, 0.0) if "ring" in kind else dice.uniform(-2.0, -0.5))
        return options

    def __str__(self) -> str:
        rates = ", ".join(f"{kind} {rate:.2f}" for kind, rate in self.rates.items()) or "none"
        return (
            f"{self.engines} engines, {self.clients} clients{' with all callers' if self.apart else ''}, "
            f"{self.roots} executions to start, hot={self.hot}, {'a deployment, ' if self.deploys else ''}"
            f"{'storms of requests, ' if self.storms else ''}{'rivals, ' if self.rivals else ''}"
            f"{self.threads} threads, {self.places} places, {self.safety_s:.1f} s with faults: {rates}"
        )
