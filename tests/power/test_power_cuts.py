"""Whenever the power goes, at `full` nothing is lost that anyone was told, at `normal` the file is as it once was."""

from __future__ import annotations

import pytest
from power_run import PER_CAMPAIGN, ROUNDS, campaign


@pytest.mark.slow
@pytest.mark.parametrize("number", range(ROUNDS // PER_CAMPAIGN))
def test_a_file_survives_power_cuts(number, seed, tmp_path):
    print(campaign(seed, number, PER_CAMPAIGN, tmp_path))
