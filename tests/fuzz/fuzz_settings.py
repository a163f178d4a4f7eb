"""How much the fuzz tests try: `PERDURE_FUZZ_FACTOR=20` for a long run."""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, Phase, settings

FACTOR = float(os.environ.get("PERDURE_FUZZ_FACTOR", "1"))


def tries(examples: int, shrink: bool = True) -> Any:
    """Give the settings for a test with so many examples. A number from which all else is drawn is not worth
    shrinking."""
    return settings(
        phases=[phase for phase in Phase if shrink or phase is not Phase.shrink],
        max_examples=max(1, round(examples * FACTOR)),
        deadline=None,
        print_blob=True,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture],
    )
