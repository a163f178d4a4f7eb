"""The clock that leases are measured with."""

from __future__ import annotations

import time


def uptime_s() -> float:
    """Give seconds that never jump, and that go on while the machine is suspended.

    On Linux the monotonic clock stands still while a laptop sleeps, so CLOCK_BOOTTIME is asked. On macOS
    CLOCK_MONOTONIC goes on, while Python's `time.monotonic` asks another one that does not.
    """
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
