"""Executions whose rows somebody else wrote to are set aside; the others, beside them, do not notice."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz_round import Base, Round, make_base
from fuzz_settings import tries
from hypothesis import given, note
from hypothesis import strategies as st

SEEDS = st.integers(0, 2**32)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """What is set aside is told of in the log, with a traceback each."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module", params=["plain", "encrypted"])
def base(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"), request.param == "encrypted")


@given(seed=SEEDS)
@tries(40, shrink=False)
def test_the_healthy_come_to_their_ends_whatever_stands_in_the_rows_of_others(base: Base, tmp_path: Path, seed: int):
    play(Round(base, tmp_path, seed), look=False)


@given(seed=SEEDS)
@tries(6, shrink=False)
def test_the_command_line_answers_whatever_stands_in_the_file(tmp_path_factory, tmp_path: Path, seed: int):
    play(Round(plain_base(tmp_path_factory), tmp_path, seed), look=True)


_bases: list[Base] = []


def plain_base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    if not _bases:
        _bases.append(make_base(tmp_path_factory.mktemp("base"), encrypted=False))
    return _bases[0]


def play(round: Round, look: bool) -> None:
    try:
        round.play(look)
    finally:
        note(f"victims: {', '.join(round.victims)}\n" + "\n".join(round.notes))
