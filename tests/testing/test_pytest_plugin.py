"""The pytest plugin, in a pytest of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

MODULE = """
import asyncio

from perdure import Signal, activity, workflow

approved = Signal("approved", bool)


@activity
async def charge(order: str) -> str:
    return "real"


@workflow
async def fulfil(order: str) -> str:
    receipt = await charge(order)
    await asyncio.sleep(86_400)
    await approved.receive()
    return receipt
"""

PASSING = """
from shop import approved, charge, fulfil


def test_an_order(perdure_env):
    env = perdure_env([fulfil])
    env.fake(charge, returns="receipt")
    env.signal(approved, True, to="order-1", after_s=3600)
    assert env.start(fulfil, "7", id="order-1").result() == "receipt"


def test_the_seed(perdure_env):
    print("seed", perdure_env([fulfil]).seed, perdure_env([fulfil], seed=7).seed)
"""

FAILING = """
from shop import approved, charge, fulfil


def test_an_order(perdure_env):
    env = perdure_env([fulfil])
    env.fake(charge, returns="receipt")
    env.signal(approved, True, to="order-2", after_s=3600)
    env.start(fulfil, "7", id="order-2").result()
    env.start(fulfil, "8", id="order-3").result()
"""


@pytest.fixture
def run(tmp_path: Path):
    """Run pytest with the plugin on a test module; give what it printed."""

    def run(module: str, *arguments: str, ends_with: int = 0) -> str:
        (tmp_path / "shop.py").write_text(MODULE)
        (tmp_path / "test_shop.py").write_text(module)
        command = [sys.executable, "-m", "pytest", "-p", "perdure.testing.plugin", *arguments]
        environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTEST_ADDOPTS": ""}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == ends_with, done.stdout + done.stderr
        return done.stdout

    return run


def test_the_fixture_opens_environments_with_the_seed_of_the_run(run):
    output = run(PASSING, "-s", "--perdure-seed=42")
    assert "2 passed" in output
    assert "perdure: --perdure-seed=42" in output
    assert "seed 42 7" in output


def test_a_random_seed_is_shown(run):
    output = run(PASSING, "-s", "--perdure-seed=random")
    drawn = re.search(r"perdure: --perdure-seed=(\d+)", output)
    assert drawn is not None
    assert f"seed {drawn[1]} 7" in output


def test_a_failed_test_shows_the_timelines_of_what_has_not_completed(run):
    output = run(FAILING, ends_with=1)
    assert "order-3 can never end: it waits for signal 'approved'" in output
    _, _, section = output.partition("perdure, seed 0")
    assert "order-3: fulfil, waiting" in section
    assert "timer_fired" in section
    assert "order-2: fulfil" not in section


def test_a_seed_that_is_none_is_refused(run):
    with pytest.raises(AssertionError, match="takes a number or `random`, not 'x'"):
        run(PASSING, "--perdure-seed=x")
