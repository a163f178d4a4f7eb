"""What the steps of random programs do to the world, and the record of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from perdure import PerdureError, Retry, Transaction, activity, current_attempt


class Flaky(Exception):
    """Goes away when it is tried again."""


class Broken(Exception):
    """Never goes away."""


class Effects:
    """What the activities of this process did: (key, attempt) to how often. `watch` hears of each."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        self.seen: Counter[tuple[str, int]] = Counter()
        self.watch: Any = None

    def note(self, key: str) -> int:
        try:
            number = current_attempt().number
        except PerdureError:
            number = 1
        self.seen[key, number] += 1
        if self.watch is not None:
            self.watch()
        return number


effects = Effects()
_RETRY = Retry(attempts=5, initial_s=0.001, max_s=0.001, never=(Broken,))


def _act(key: str, fails: int, final: bool) -> str:
    if effects.note(key) <= fails:
        raise Flaky(key)
    if final:
        raise Broken(key)
    return key


@activity(retry=_RETRY)
async def act(key: str, fails: int = 0, final: bool = False) -> str:
    return _act(key, fails, final)


@activity(retry=_RETRY)
def act_in_thread(key: str, fails: int = 0, final: bool = False) -> str:
    return _act(key, fails, final)


@activity(transactional=True, retry=_RETRY)
def act_in_transaction(transaction: Transaction, key: str) -> str:
    effects.note(key)
    return key
