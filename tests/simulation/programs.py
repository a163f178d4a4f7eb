"""Random workflow programs: a tree of steps as plain JSON, a step being a list that begins with its name.

A step ends as `oracle.py` says, whatever is interrupted, late or repeated. Steps that race say which outcomes they
may have. `break` stands last in its block only, where something catches it, or last in the whole program.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import Any

Program = list[Any]


class Drawing:
    """Draws the programs of one seed; every key in them is its own. With `changed` most of them meet changed code."""

    def __init__(self, dice: random.Random, changed: bool) -> None:
        self.dice = dice
        self.changed = changed
        self._keys = count(1)

    def program(self) -> Program:
        """Draw what a `play` workflow does."""
        steps = [*self._changes(), *self.block(2, self.dice.randint(1, 4))]
        ending = self.dice.random()
        if ending < 0.1:
            return [*steps, ["break", self.key()]]
        if ending < 0.3:
            return [*steps, ["again", self.block(1, 2)]]
        return steps

    def plain_program(self) -> Program:
        """Draw what a `def` workflow does."""
        steps = [*self._changes(), *self._plain_block(self.dice.randint(1, 4))]
        return [*steps, ["again", self._plain_block(2)]] if self.dice.random() < 0.2 else steps

    def _changes(self) -> Program:
        return [["patch", self.key()]] if self.changed and self.dice.random() < 0.7 else []

    def block(self, depth: int, length: int) -> Program:
        kinds = _LEAVES + (_BRANCHES if depth else [])
        return [self.dice.choice(kinds)(self, depth) for _ in range(length)]

    def key(self) -> str:
        return f"k{next(self._keys)}"

    def keys(self) -> list[str]:
        return [self.key() for _ in range(self.dice.randint(1, 2))]

    def short_s(self) -> float:
        return self.dice.choice([0.0, 0.001, 0.01, 0.1, 0.5, 2.0])

    def inner(self, depth: int) -> Program:
        return self.block(depth - 1, self.dice.randint(1, 2))

    def _plain_block(self, length: int) -> Program:
        return [self.dice.choice(_PLAIN)(self, 1) for _ in range(length)]

    def plain_inner(self) -> Program:
        return [self.dice.choice(_PLAIN_LEAVES)(self, 0) for _ in range(self.dice.randint(1, 2))]


Draw = Callable[[Drawing, int], list[Any]]


def _do(d: Drawing, depth: int) -> list[Any]:
    how = d.dice.choice(["async", "async", "thread", "transaction"])
    return ["do", d.key(), how, d.dice.choice([0, 0, 0, 1, 2]), d.short_s()]


def _sleep(d: Drawing, depth: int) -> list[Any]:
    return ["sleep", d.dice.choice([0.0, 0.01, 0.3, 1.0, 3.0])]


def _keyed(name: str) -> Draw:
    return lambda d, depth: [name, d.key()]


def _branches(name: str) -> Draw:
    return lambda d, depth: [name, [d.inner(depth) for _ in range(d.dice.randint(2, 3))]]


def _undo(d: Drawing, depth: int) -> list[Any]:
    return ["undo", d.keys(), d.inner(depth), d.dice.random() < 0.6]


def _try(d: Drawing, depth: int) -> list[Any]:
    broken = [["break", d.key()]] if d.dice.random() < 0.6 else []
    return ["try", [*d.inner(depth), *broken]]


def _child(d: Drawing, depth: int) -> list[Any]:
    return ["child", "plain", d.plain_inner()] if d.dice.random() < 0.3 else ["child", "play", d.inner(depth)]


_LEAVES: list[Draw] = [
    _do,
    _do,
    _do,
    _do,
    _sleep,
    _sleep,
    _keyed("signal"),
    _keyed("outside"),
    _keyed("unanswered"),
    _keyed("hang"),
    _keyed("beat"),
    _keyed("once"),
    _keyed("set"),
    _keyed("patch"),
    _keyed("send"),
]
_BRANCHES: list[Draw] = [
    _branches("all"),
    _branches("all"),
    _branches("first"),
    lambda d, depth: ["within", d.short_s(), d.inner(depth)],
    lambda d, depth: ["within", d.short_s(), d.inner(depth)],
    _try,
    _undo,
    lambda d, depth: ["finally", d.key(), d.inner(depth)],
    _child,
    _child,
    lambda d, depth: ["leave", d.inner(depth)],
    lambda d, depth: ["drop", d.short_s(), d.inner(depth)],
    lambda d, depth: ["chat", f"chat-{d.key()}", d.dice.randint(1, 4)],
]
_PLAIN_LEAVES: list[Draw] = [_do, _do, _sleep, _keyed("signal"), _keyed("set"), _keyed("patch"), _keyed("outside")]
_PLAIN: list[Draw] = [
    *_PLAIN_LEAVES,
    lambda d, depth: ["submit", d.keys()],
    lambda d, depth: ["try", [*d.plain_inner(), ["break", d.key()]]],
    lambda d, depth: ["undo", d.keys(), d.plain_inner(), d.dice.random() < 0.6],
    lambda d, depth: ["finally", d.key(), d.plain_inner()],
    lambda d, depth: ["child", "plain", d.plain_inner()],
]


def has(program: Any, name: str) -> bool:
    """Say whether a step of this name is anywhere in a program, its children's included."""
    if not isinstance(program, list) or not program:
        return False
    return program[0] == name or any(has(part, name) for part in program)
