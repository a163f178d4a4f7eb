"""The `def` workflow that plays programs."""

from __future__ import annotations

from typing import Any

from perdure import Saga, Signal, continue_as_new, patched, sleep, state, workflow
from simulation.activities import Broken, ask_outside, begin, break_down, deployed, do, do_in_thread


@workflow
def plain(program: list[Any]) -> list[Any]:
    return plain_block(program)


@workflow(name="plain")
def plain_before(program: list[Any]) -> list[Any]:
    """Do the same as the code before the last deployment did."""
    deployed.set(False)
    return plain_block(program)


def plain_block(steps: list[Any]) -> list[Any]:
    return [_PLAIN_STEPS[name](*arguments) for name, *arguments in steps]


def _plain_sleep(seconds: float) -> str:
    sleep(seconds)
    return "slept"


def _plain_set(key: str) -> str:
    state[key] = key
    return key


def _plain_try(steps: list[Any]) -> Any:
    try:
        return plain_block(steps)
    except Broken:
        return "caught"


def _plain_undo(keys: list[str], steps: list[Any], broken: bool) -> Any:
    try:
        with Saga() as saga:
            for key in keys:
                saga.add(do, f"undo {key}")
                do_in_thread(key)
            result = plain_block(steps)
            if broken:
                raise Broken("undo")
            return result
    except Broken:
        return "undone"


def _plain_finally(key: str, steps: list[Any]) -> Any:
    try:
        return plain_block(steps)
    finally:
        do_in_thread(key)


def _plain_patch(patch_id: str) -> str:
    if deployed.get() and patched(patch_id):
        return do.submit(patch_id).result()
    return do_in_thread(patch_id)


def _plain_submit(keys: list[str]) -> list[str]:
    return [call.result() for call in [do.submit(key) for key in keys]]


_PLAIN_STEPS: dict[str, Any] = {
    "do": lambda key, how, fails, wait_s: begin(how, key, fails, wait_s).result(),
    "sleep": _plain_sleep,
    "signal": lambda name: Signal(name).receive().result(),
    "outside": lambda key: ask_outside.submit(key).result(),
    "set": _plain_set,
    "patch": _plain_patch,
    "break": lambda key: break_down.submit(key).result(),
    "try": _plain_try,
    "undo": _plain_undo,
    "finally": _plain_finally,
    "submit": _plain_submit,
    "child": lambda kind, program: plain(program),
    "again": lambda program: continue_as_new(program),
}
