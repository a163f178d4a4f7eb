from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Random programs leave failed tasks behind on purpose; asyncio's complaints about them are no news."""
    loggers = [logging.getLogger(f"perdure.{name}") for name in ("workflow", "runner")]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    yield
    for logger, level in zip(loggers, before, strict=True):
        logger.setLevel(level)
