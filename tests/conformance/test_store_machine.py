"""Whatever runners, their successors and clients do, a store keeps and gives what plain dictionaries would."""

from __future__ import annotations

import os
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from store_backends import BACKENDS
from store_machine import StoreMachine

FACTOR = float(os.environ.get("PERDURE_PROPERTY_FACTOR", "1"))
QUIET = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


def tries(examples: int, phases: tuple[Phase, ...] = tuple(Phase)) -> settings:
    return settings(
        max_examples=max(1, round(examples * FACTOR)),
        stateful_step_count=30,
        deadline=None,
        print_blob=True,
        suppress_health_check=QUIET,
        phases=phases,
    )


@pytest.mark.parametrize("name", sorted(BACKENDS))
def test_a_store_is_what_plain_dictionaries_would_be(name):
    machine = type(f"{name}Machine", (StoreMachine,), {"backend_name": name})
    run_state_machine_as_test(machine, settings=tries(60))


BROKEN_SQL = {
    "remove_inbox_many": "SELECT ?",
    "remove_state_many": "SELECT ?, ?",
    "put_state_many": "INSERT OR IGNORE INTO perdure_state VALUES (?, ?, ?)",
    "remove_timer_many": "DELETE FROM perdure_timer WHERE due_at = ? AND execution = ? AND seq = ? OR purpose = ?",
    "set_status_many": "UPDATE perdure_execution SET status = ?1, ended_at = ?2, deployment = ?4 WHERE num = ?6",
    "append_many": "INSERT OR REPLACE INTO perdure_event VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    "put_blob": "INSERT OR IGNORE INTO perdure_blob VALUES (?, 1, ?)",
    "remove_heartbeat_many": "SELECT ?, ?",
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
    machine = type("SpoiltMachine", (StoreMachine,), {"prepare": staticmethod(spoil)})
    with pytest.raises((AssertionError, Exception)) as found:
        run_state_machine_as_test(machine, settings=tries(200, (Phase.generate,)))
    print(type(found.value).__name__)
