"""What is in the replica by now, told by the runner to other processes of the machine.

A small file beside the database: everything that was committed before an instant of this boot's monotonic clock is in
the replica. It counts only while that runner lives, in the boot that it was written in.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec

_BOOT = Path("/proc/sys/kernel/random/boot_id")


class Mark(msgspec.Struct, frozen=True):
    """`covers` is in seconds of the monotonic clock."""

    epoch: int
    boot: str
    covers: float


class Watermark:
    """Write it as the runner, read it as anyone."""

    def __init__(self, database: Path) -> None:
        self.path = database.with_name(database.name + "-replicated")

    def write(self, epoch: int, covers: float) -> None:
        fresh = self.path.with_name(self.path.name + ".new")
        fresh.write_bytes(msgspec.json.encode(Mark(epoch, _boot(), covers)))
        os.replace(fresh, self.path)

    def covers(self, epoch: int) -> float:
        """Give up to which instant everything is in the replica, as the runner with this epoch says; 0 if it says
        nothing."""
        try:
            mark = msgspec.json.decode(self.path.read_bytes(), type=Mark)
        except (OSError, msgspec.MsgspecError):
            return 0.0
        return mark.covers if (mark.epoch, mark.boot) == (epoch, _boot()) else 0.0

    def remove(self) -> None:
        with contextlib.suppress(OSError):
            self.path.unlink()


def _boot() -> str:
    """Name this boot of the machine, where the system does: another one's clock started anew."""
    try:
        return _BOOT.read_text().strip()
    except OSError:
        return ""
