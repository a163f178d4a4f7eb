"""The `def` workflow that runs programs of `workflow_programs.py` made for it."""

from __future__ import annotations

from typing import Any

from program_activities import act, act_in_thread, act_in_transaction

from perdure import Saga, Signal, patched, sleep, state, workflow


@workflow
def interpret_def(program: list[Any]) -> list[Any]:
    return block_def(program)


def block_def(steps: list[Any]) -> list[Any]:
    return [_step_def(*step) for step in steps]


def _step_def(name: str, *arguments: Any) -> Any:
    match name, arguments:
        case "act", (key, fails, final):
            return act_in_thread(key, fails, final)
        case "transaction", (key,):
            return act_in_transaction.submit(key).result()
        case "sleep", (ms,):
            return sleep(ms / 1000)
        case "receive", (signal,):
            return Signal(signal).receive().result()
        case "set", (key, value):
            state[key] = value
            return None
        case "submit", (keys,):
            return [call.result() for call in [act.submit(key) for key in keys]]
        case _:
            return _compound_def(name, *arguments)


def _compound_def(name: str, *arguments: Any) -> Any:
    match name, arguments:
        case "try", (steps,):
            try:
                return block_def(steps)
            except Exception as error:
                return ["caught", type(error).__name__]
        case "cleanup", (key, steps):
            try:
                return block_def(steps)
            finally:
                act_in_thread(key)
        case "saga", (undo, steps):
            with Saga() as saga:
                for key in undo:
                    saga.add(act_in_thread, key)
                return block_def(steps)
        case "patched", (patch_id, steps):
            return block_def(steps) if patched(patch_id) else "the code before"
        case "child", ("def", signals, program):
            call = interpret_def.submit(program)
            for signal in signals:
                Signal(signal).send(call.execution_id or "", signal)
            return call.result()
        case _:
            raise ValueError(f"no step {name}")
