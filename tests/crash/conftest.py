"""What repeats a test here: its seed."""

from __future__ import annotations

import os
import random

import pytest


@pytest.fixture
def seed() -> int:
    value = int(os.environ.get("PERDURE_CRASH_SEED") or random.SystemRandom().randrange(2**32))
    print(f"PERDURE_CRASH_SEED={value}")
    return value
