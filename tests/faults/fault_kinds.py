"""What goes wrong: one call, or what a disk does for a while.

Faults that last are counted in virtual time, but for locks: SQLite waits for those itself, in real time.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from fault_calls import ERRORS, Call

LASTS_S = 3.3
LOCKS_TRIED = 20

DISKS: dict[str, dict[str, int]] = {
    "full": {"write": errno.ENOSPC, "truncate": errno.ENOSPC},
    "over quota": {"write": errno.EDQUOT, "truncate": errno.EDQUOT, "open": errno.EDQUOT},
    "dead": dict.fromkeys([kind for kind in ERRORS if kind != "lock"], errno.EIO),
    "read-only": dict.fromkeys(["write", "truncate", "delete", "open"], errno.EROFS),
    "not permitted": {"open": errno.EACCES, "delete": errno.EACCES},
    "out of descriptors": {"open": errno.EMFILE},
    "out of memory": {"map": errno.ENOMEM},
    "locked by others": {"lock": errno.EACCES},
    "without locks": {"lock": errno.ENOLCK},
}
"""By what is wrong with the disk: which calls fail, and with what."""


class Once:
    """Call number n fails with its `variant`-th error. If it has fewer, with none, or `wraps` and begins again."""

    def __init__(self, n: int, variant: int, wraps: bool) -> None:
        self.n = n
        self.variant = variant
        self.wraps = wraps

    def __call__(self, number: int, call: Call) -> int:
        errors = ERRORS[call.kind]
        if number != self.n or (self.variant >= len(errors) and not self.wraps):
            return 0
        return errors[self.variant % len(errors)]


class Lasting:
    """From call number n on the disk is bad. `now` gives seconds; `forever` it stays so."""

    def __init__(self, n: int, disk: str, now: Callable[[], float], forever: bool = False) -> None:
        self.n = n
        self.errors = DISKS[disk]
        self.now = now
        self.forever = forever
        self._until: float | None = None
        self._locks = 0

    def __call__(self, number: int, call: Call) -> int:
        if number < self.n or call.kind not in self.errors:
            return 0
        if call.kind == "lock":
            self._locks += 1
            over = self._locks > LOCKS_TRIED
        else:
            self._until = self.now() + LASTS_S if self._until is None else self._until
            over = self.now() >= self._until
        return 0 if over and not self.forever else self.errors[call.kind]
