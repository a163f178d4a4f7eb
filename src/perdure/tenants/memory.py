"""Memory that is free and still ours."""

from __future__ import annotations

import ctypes
import sys


def trim() -> None:
    """Have the C library give free memory back to the system, where it can: with glibc. Takes about a millisecond."""
    if sys.platform == "linux":
        release = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if release is not None:
            release(0)
