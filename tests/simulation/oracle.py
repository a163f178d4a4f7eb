"""What must come out of a program, whatever went wrong meanwhile."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from simulation.programs import Program


def accepts(program: Program, result: Any) -> bool:
    """Say whether a program may end with `result`. One that ends with `break` or `again` has none."""
    steps = list(program)
    if ends_with(steps, "break") or ends_with(steps, "again"):
        return False
    return _block(steps, result)


def ends_with(program: Program, name: str) -> bool:
    return bool(program) and program[-1][0] == name


def _block(steps: Program, result: Any) -> bool:
    return isinstance(result, list) and len(result) == len(steps) and all(map(_step, steps, result))


def _step(step: list[Any], result: Any) -> bool:
    name, *arguments = step
    match name:
        case "sleep":
            return bool(result == "slept")
        case "signal":
            return isinstance(result, str) and result.partition("#")[0] == arguments[0]
        case "outside":
            return bool(result == f"answer {arguments[0]}")
        case "unanswered":
            return bool(result == "late")
        case "once":
            return result in (arguments[0], "interrupted")
        case "all":
            return _each(arguments[0], result)
        case "first":
            return isinstance(result, list) and len(result) == 2 and _block(arguments[0][result[0]], result[1])
        case "within":
            return result == "late" or _block(arguments[1], result)
        case "try":
            return bool(result == "caught") if ends_with(arguments[0], "break") else _block(arguments[0], result)
        case "undo":
            return bool(result == "undone") if arguments[2] else _block(arguments[1], result)
        case "finally" | "child":
            return _block(arguments[1], result)
        case "leave":
            return bool(result == "left")
        case "drop":
            return result == "dropped" or _block(arguments[1], result)
        case "chat":
            return bool(result == list(range(arguments[1])))
        case "submit":
            return bool(result == arguments[0])
        case _:  # it gives its key
            return bool(result == arguments[0])


def _each(branches: list[Program], result: Any) -> bool:
    return isinstance(result, list) and len(result) == len(branches) and all(map(_block, branches, result))


def collected(received: Iterable[str], told: Iterable[str], maybe: Iterable[str]) -> str:
    """Say what is wrong with the values that a collector received: each that was told once, in the order of its
    sender; of the others each once at most. Empty when nothing is."""
    got, certain, possible = list(received), set(told), set(maybe)
    if len(set(got)) != len(got):
        return f"received twice: {sorted(value for value in set(got) if got.count(value) > 1)}"
    if lost := certain - set(got):
        return f"lost: {sorted(lost)}"
    if strange := set(got) - certain - possible:
        return f"never sent: {sorted(strange)}"
    for sender in dict.fromkeys(value.partition("~")[0] for value in got if "~" in value):
        numbers = [int(value.partition("~")[2]) for value in got if value.startswith(f"{sender}~")]
        if numbers != sorted(numbers):
            return f"out of order: {sender} {numbers}"
    return ""
