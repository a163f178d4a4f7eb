"""The pytest plugin: the fixture `perdure_env`, and timelines in the reports of failed tests.

pytest finds it by itself where perdure is installed. It is the one module of perdure that imports pytest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from perdure.store import Filter
from perdure.testing.environment import Environment
from perdure.types import Status

SHOWN = 20
"""How many executions a report shows, newest."""

_opened: pytest.StashKey[list[Environment]] = pytest.StashKey()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("perdure")
    group.addoption(
        "--perdure-seed",
        metavar="N",
        default="0",
        help="seed of the environments that `perdure_env` opens: a number, or `random` for another one each time",
    )


def pytest_configure(config: pytest.Config) -> None:
    seed = str(config.getoption("--perdure-seed"))
    if seed == "random":  # drawn once, also for the processes of xdist
        seed = str(random.SystemRandom().randrange(1_000_000))
        config.option.perdure_seed = seed
    if not seed.isdigit():
        raise pytest.UsageError(f"--perdure-seed takes a number or `random`, not {seed!r}")


def pytest_report_header(config: pytest.Config) -> str | None:
    seed = config.getoption("--perdure-seed")
    return f"perdure: --perdure-seed={seed}" if seed != "0" else None


@pytest.fixture
def perdure_env(request: pytest.FixtureRequest) -> Iterator[Callable[..., Environment]]:
    """Open simulated environments: `env = perdure_env([fulfil])`, with the parameters of `Environment`.

    They are closed after the test. Their seed is `--perdure-seed` unless given. When the test fails, its report shows
    the timelines of all executions that have not completed.
    """
    opened = request.node.stash.setdefault(_opened, [])
    with ExitStack() as stack:

        def open_environment(*args: Any, **options: Any) -> Environment:
            options.setdefault("seed", int(request.config.getoption("--perdure-seed")))
            environment = stack.enter_context(Environment(*args, **options))
            opened.append(environment)
            return environment

        yield open_environment


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    report = outcome.get_result()
    if report.when == "call" and report.failed:
        for environment in item.stash.get(_opened, []):
            report.sections.append((f"perdure, seed {environment.seed}", _unfinished(environment)))


def _unfinished(environment: Environment) -> str:
    """Write the timelines of the executions that have not completed."""
    unfinished = tuple(status for status in Status if status not in (Status.COMPLETED, Status.CONTINUED))
    try:
        found = environment.list(Filter(status=unfinished, limit=SHOWN))
        timelines = [environment.timeline(info.id) for info in reversed(found)]
    except Exception as error:  # the report of the test matters more
        return f"no timeline: {error}"
    return "\n\n".join(timelines) or "every execution has completed"
