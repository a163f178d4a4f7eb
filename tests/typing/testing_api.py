"""Checked by mypy, never run: simulated handles know their results."""

from __future__ import annotations

from typing import assert_type

from perdure import Signal, activity, workflow
from perdure.testing import ActivityCall, Environment, Fault, check_replay
from perdure.testing.execution import SimulatedExecution


@activity
async def charge(order: str) -> str:
    return order


approved = Signal("approved", bool)


@workflow
async def fulfil(order: str) -> int:
    return 1


def fail_first(call: ActivityCall) -> Fault | None:
    return Fault(ConnectionError(), "before") if call.attempt == 1 else None


with Environment([fulfil], real=[charge]) as env:
    assert_type(env, Environment)
    env.fake(charge, lambda order: order, delay_s=1)
    env.fake(charge, outcomes=[ConnectionError, "receipt"])
    env.on_attempt = fail_first
    execution = env.start(fulfil, "1", id="order-1")
    assert_type(execution, SimulatedExecution[int])
    assert_type(execution.result(), int)
    assert_type(env.execution("order-1", fulfil).result(), int)
    env.signal(approved, True, to=execution, after_s=60)
    env.cancel("order-1", "enough")
    assert_type(env.calls(charge), list[ActivityCall])
    assert check_replay(env.path, [fulfil])
