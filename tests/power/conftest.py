"""The seed of this run's power cuts: that of `make test SEED=…`."""

from __future__ import annotations

import random

import pytest


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> str:
    given = request.config.getoption("--hypothesis-seed", default=None)
    value = str(given if given is not None else random.SystemRandom().randrange(2**32))
    print(f"seed {value}")
    return value
