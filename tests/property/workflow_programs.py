"""Random workflow programs: a tree of steps as plain JSON, which `program_interpreter.py` runs as a workflow.

A program is a list of steps; a step is a list that begins with its name. `?` stands for a key and is replaced by one
of its own per step (`keyed`), so that every effect can be told from every other.

*Confluent* programs end the same way whatever finishes first: where branches race, only one can win, and an error
never leaves other branches running. *Plain* programs are confluent ones of steps that work outside an engine too.
"""

from __future__ import annotations

from itertools import count
from typing import Any

from hypothesis import strategies as st

Program = list[Any]

SIGNALS = ("red", "blue")
LONG_MS = 86_400_000
SHORT_MS = 2
NEVER: list[Program] = [["never"]]


def keyed(program: Program) -> Program:
    """Give every step keys of its own."""
    numbers = count(1)

    def walk(value: Any) -> Any:
        if isinstance(value, list):
            return [walk(item) for item in value]
        return f"k{next(numbers)}" if value == "?" else value

    return walk(program)


def receives(program: Program) -> list[str]:
    """Name the signals that a program receives itself, its children's not counted."""
    found: list[str] = []

    def walk(value: Any) -> None:
        if isinstance(value, list) and value:
            if value[0] == "receive":
                found.append(value[1])
            elif value[0] != "child":
                for item in value:
                    walk(item)

    walk(program)
    return found


# --- strategies -----------------------------------------------------------------------------------------------------

_short = st.sampled_from([0, 1, 2, 5])
_fails = st.sampled_from([0, 0, 0, 1, 2])
_ok = st.just(["act", "?", 0, False])
_broken = st.just(["act", "?", 0, True])
_act = st.builds(lambda fails: ["act", "?", fails, False], _fails)
_sleep = st.builds(lambda ms: ["sleep", ms], _short)
_receive = st.builds(lambda name: ["receive", name], st.sampled_from(SIGNALS))
_set = st.builds(lambda value: ["set", "?", value], st.one_of(st.none(), st.integers(0, 9), st.text("aü", max_size=3)))

_plain_leaf = st.one_of(_ok, _ok, _broken, _sleep, st.just(["yield"]))
_leaf = st.one_of(_act, _act, _broken, _sleep, _receive, _set, st.just(["thread", "?"]), st.just(["transaction", "?"]))
_racing_leaf = st.one_of(_leaf, _leaf, st.just(["draw"]), st.just(["now"]), st.just(["never"]), st.just(["unset", "?"]))


def _blocks(step: st.SearchStrategy[Any], largest: int = 3) -> st.SearchStrategy[Program]:
    return st.one_of(st.lists(step, min_size=1, max_size=largest), st.just([]))


def _branches(step: st.SearchStrategy[Any], guarded: bool) -> st.SearchStrategy[list[Program]]:
    block = _blocks(step)
    if guarded:
        block = block.map(lambda steps: [["try", steps]])
    return st.lists(block, min_size=1, max_size=4)


_stuck = st.sampled_from([NEVER, [["cleanup", "?", NEVER]], [["try", NEVER]], [["timeout", LONG_MS, NEVER]]])


def _confluent_steps(inner: st.SearchStrategy[Any], plain: bool) -> list[st.SearchStrategy[Any]]:
    block = _blocks(inner)
    fork = st.sampled_from(["gather", "group", "as_completed", "lock", "semaphore", "barrier"])
    steps = [
        st.builds(lambda name, branches: [name, branches], fork, _branches(inner, True)),
        st.builds(lambda steps: ["try", steps], block),
        st.builds(lambda steps: ["cleanup", "?", steps], block),
        st.builds(lambda steps: ["timeout", LONG_MS, steps], block),
        st.builds(lambda steps: ["wait_for", LONG_MS, steps], block),
        st.builds(lambda how, steps: [how, SHORT_MS, steps], st.sampled_from(["timeout", "wait_for"]), _stuck),
        st.builds(lambda one, rest: ["first", [[["try", one]], *rest]], block, st.lists(_stuck, max_size=2)),
        st.builds(lambda victim, steps: ["scope", victim, steps], _stuck, block),
        st.builds(lambda steps: ["shield", steps], block),
        st.builds(lambda n, steps: ["queue", n, steps], st.integers(1, 2), block),
        st.builds(lambda steps: ["patched", "?", steps], block),
        st.builds(lambda program: ["child", "async", receives(program), program], block),
    ]
    if not plain:
        steps += [
            st.builds(lambda program: ["child", "def", receives(program), program], _def_program(1)),
            st.builds(lambda steps: ["saga", ["?", "?"], steps], block),
        ]
    return steps


def _racing_steps(inner: st.SearchStrategy[Any]) -> list[st.SearchStrategy[Any]]:
    block, branches = _blocks(inner), _branches(inner, False)
    fork = st.sampled_from(["gather", "group", "as_completed", "lock", "semaphore", "first"])
    return [
        *_confluent_steps(inner, plain=False),
        st.builds(lambda name, branches: [name, branches], fork, branches),
        st.builds(lambda how, ms, steps: [how, ms, steps], st.sampled_from(["timeout", "wait_for"]), _short, block),
        st.builds(lambda victim, steps: ["scope", victim, steps], block, block),
        st.builds(lambda steps: ["orphan", steps], block),
        st.builds(lambda program: ["abandon", program], block),
    ]


def _def_program(depth: int) -> st.SearchStrategy[Program]:
    """Programs of steps that the `def` interpreter has."""
    leaf = st.one_of(_act, _act, _broken, _sleep, _receive, _set, st.just(["transaction", "?"]))
    step = leaf
    for _ in range(depth):
        block = _blocks(step)
        step = st.one_of(
            leaf,
            st.builds(lambda steps: ["try", steps], block),
            st.builds(lambda steps: ["cleanup", "?", steps], block),
            st.builds(lambda steps: ["saga", ["?"], steps], block),
            st.builds(lambda steps: ["patched", "?", steps], block),
            st.builds(lambda n: ["submit", ["?"] * n], st.integers(1, 3)),
            st.builds(lambda program: ["child", "def", receives(program), program], block),
        )
    return _blocks(step, 4)


def _nested(leaf: st.SearchStrategy[Any], grow: Any, depth: int) -> st.SearchStrategy[Any]:
    step = leaf
    for _ in range(depth):
        step = st.one_of(leaf, *grow(step))
    return step


def _whole(step: st.SearchStrategy[Any], again: bool = True) -> st.SearchStrategy[Program]:
    program = _blocks(step, 5)
    if again:
        more = st.builds(lambda steps, rest: [*steps, ["again", rest]], program, program)
        program = st.one_of(program, program, program, more)
    return program.map(keyed)


plain_programs = _whole(_nested(_plain_leaf, lambda s: _confluent_steps(s, plain=True), 2), again=False)
confluent_programs = _whole(_nested(_leaf, lambda s: _confluent_steps(s, plain=False), 2))
racing_programs = _whole(_nested(_racing_leaf, _racing_steps, 3))
def_programs = _def_program(2).map(keyed)

seeds = st.integers(0, 2**32 - 1)
