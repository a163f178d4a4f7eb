"""Whatever runners, their successors and clients do, a store keeps and gives what plain dictionaries would."""

from __future__ import annotations

import contextlib
import os
import random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from store_backends import BACKENDS
from store_machine import StoreMachine

FACTOR = float(os.environ.get("PERDURE_PROPERTY_FACTOR", "1"))
ROUNDS = 200
STEPS = 40


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_store_is_what_plain_dictionaries_would_be(name):
    machine = type(f"{name}Machine", (StoreMachine,), {"backend_name": name})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=max(1, round(30 * FACTOR)),
            stateful_step_count=STEPS,
            deadline=None,
            print_blob=True,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much],
        ),
    )


def test_a_store_is_what_plain_dictionaries_would_be_after_many_steps():
    choose = printed_random()
    assert not any(goes_wrong(StoreMachine(), choose) for _ in range(round(20 * FACTOR)))


# --- can it fail? ---------------------------------------------------------------------------------------------------

BROKEN_SQL = {
    "remove_inbox_many": "SELECT ?",
    "put_state_many": "INSERT OR IGNORE INTO perdure_state VALUES (?, ?, ?)",
    "remove_timer_many": "DELETE FROM perdure_timer WHERE due_at = ? AND execution = ? AND seq = ? OR purpose = ?",
    "put_blob": "INSERT OR IGNORE INTO perdure_blob VALUES (?, 1, ?)",
}
"""Statements that do not quite do what they should."""


@pytest.mark.parametrize("statement", sorted(BROKEN_SQL))
def test_a_statement_that_is_not_right_is_found_out(statement):
    def spoil(store: Any) -> None:
        store.writer._sql = {**store.writer._sql, statement: BROKEN_SQL[statement]}

    expect_to_be_found_out(spoil)


def test_a_store_that_does_not_ask_for_the_epoch_is_found_out():
    def spoil(store: Any) -> None:
        store.writer._refuse_stale = lambda: None

    expect_to_be_found_out(spoil)


def expect_to_be_found_out(spoil: Any) -> None:
    choose = printed_random()
    machine = type("SpoiltMachine", (StoreMachine,), {"prepare": staticmethod(spoil)})
    assert any(goes_wrong(machine(), choose) for _ in range(ROUNDS))


def printed_random() -> random.Random:
    seed = int(os.environ.get("PERDURE_MACHINE_SEED") or random.SystemRandom().randrange(2**32))
    print(f"PERDURE_MACHINE_SEED={seed}")
    return random.Random(seed)


def goes_wrong(machine: StoreMachine, choose: random.Random) -> bool:
    """Take steps at random, more than hypothesis would; say whether something was not as it should be."""
    try:
        machine.begin(choose.randrange(2))
        for _ in range(STEPS):
            who, process = choose.randrange(10), choose.randrange(2)
            match choose.randrange(10):
                case 0:
                    machine.become_the_runner(process)
                case 1:
                    machine.create(process, choose, 1)
                case 2:
                    machine.request(process, choose, 1)
                case 3:
                    machine.delete(process, choose)
                case _:
                    machine.commit(who, choose)
            machine.both_read_what_was_written()
    except (Exception, pytest.fail.Exception) as error:
        print(f"{type(error).__name__}: {error}"[:500])
        return True
    finally:
        with contextlib.suppress(AssertionError):
            machine.teardown()
    return False
