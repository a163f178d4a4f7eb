"""Reading what the log says about attempts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from perdure import Execution
from perdure.types import microseconds


@pytest.fixture
def failed_attempts() -> Callable[[Execution[Any]], Awaitable[list[dict[str, Any]]]]:
    """Give the notes of failed attempts, each with `wait_s`: how long after it the next one was to start."""

    async def read(execution: Execution[Any]) -> list[dict[str, Any]]:
        found = []
        async for event in execution.history():
            if event.kind == "attempt_failed":
                note = event.value()
                if note["retry_at"] is not None:
                    note["wait_s"] = (note["retry_at"] - microseconds(event.at)) / 1e6
                found.append(note)
        return found

    return read


@pytest.fixture
def kinds() -> Callable[[Execution[Any]], Awaitable[list[str]]]:
    """Give the kinds of an execution's events, in order."""

    async def read(execution: Execution[Any]) -> list[str]:
        return [event.kind async for event in execution.history()]

    return read
