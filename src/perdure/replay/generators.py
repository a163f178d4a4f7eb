"""The async generators of one execution's code.

Left to the garbage collector, a generator that is left before its end would be closed at a moment that replay cannot
repeat, and on the engine's own loop, where its cleanup would run for real. So a run holds the ones that were begun and
closes them at its end, as `asyncio.run` does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine
from typing import Any

Generator = AsyncGenerator[Any, Any]
PRUNE_AT = 64


class Generators:
    """The generators that were begun; those that have ended are forgotten now and then."""

    __slots__ = ("begun", "limit")

    def __init__(self) -> None:
        self.begun: list[Generator] = []
        self.limit = PRUNE_AT

    def hold(self, generator: Generator) -> None:
        """Take a generator that is begun; the `firstiter` hook."""
        if len(self.begun) >= self.limit:
            self.begun = _open(self.begun)
            self.limit = max(PRUNE_AT, 2 * len(self.begun))
        self.begun.append(generator)

    def closing(self) -> list[Coroutine[Any, Any, None]]:
        """Give a coroutine for each open generator that closes it, and forget them."""
        left, self.begun = _open(self.begun), []
        return [_close(generator) for generator in left]


def _open(generators: list[Generator]) -> list[Generator]:
    return [generator for generator in generators if getattr(generator, "ag_frame", None) is not None]


async def _close(generator: Generator) -> None:
    await generator.aclose()


def drop(generator: Generator) -> None:
    """Let an evicted run's generator go without running its cleanup; the `finalizer` hook."""
