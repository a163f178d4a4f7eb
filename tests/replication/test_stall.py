"""When a Litestream that runs is started anew: after an outage, and seldom otherwise."""

from __future__ import annotations

from perdure.replication.stall import LONG_S, STUCK_S, Stall


def test_while_something_arrives_or_nothing_is_waited_for_nobody_asks() -> None:
    stall = Stall(0.0)
    assert not any(stall.look(number, 5, number * STUCK_S * 0.9) for number in range(10))
    assert not any(stall.look(10, 0, 1_000.0 + number * STUCK_S) for number in range(10))


def test_once_after_an_outage() -> None:
    stall = Stall(0.0)
    assert not stall.look(-1, 1, STUCK_S - 1)
    assert stall.look(-1, 1, STUCK_S)
    assert not stall.answered(False, STUCK_S)
    assert not stall.answered(False, STUCK_S + 1)
    assert stall.answered(True, STUCK_S + 2)
    assert not stall.answered(True, STUCK_S + 3)


def test_a_large_snapshot_gets_there_one_day() -> None:
    """It takes five hours, and nothing is wrong."""
    stall, began, now = Stall(0.0), 0.0, 0.0
    while now - began < 5 * 3600:
        now += 1.0
        if stall.look(-1, 1, now) and stall.answered(True, now):
            began = now
        assert now < 24 * 3600


def test_without_a_sign_of_an_outage_after_a_long_time() -> None:
    stall = Stall(0.0)
    nudged = [at for at in range(4 * int(LONG_S)) if stall.look(-1, 1, float(at)) and stall.answered(True, float(at))]
    assert nudged == [LONG_S, 3 * LONG_S]


def test_an_outage_before_something_arrived_is_over() -> None:
    stall = Stall(0.0)
    stall.look(-1, 1, STUCK_S)
    stall.answered(False, STUCK_S)
    stall.look(1, 1, STUCK_S + 1)
    assert not stall.answered(True, 2 * STUCK_S + 2)
