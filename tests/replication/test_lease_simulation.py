"""Never two valid holders, whatever clocks, networks and processes do; and always one in the end."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lease_simulation import Simulation
from virtual_time import run_virtually

from perdure.replication import lease as module
from perdure.replication.lease import Lease

ROUNDS = 20


def simulate(seed: int, broken: Callable[[Lease], None] | None = None) -> Simulation:
    simulation = Simulation(seed, broken)
    run_virtually(simulation.run())
    return simulation


@pytest.mark.slow
def test_never_two_valid_holders_and_always_one_in_the_end(request: pytest.FixtureRequest) -> None:
    given = request.config.getoption("--hypothesis-seed", None)
    first = 1000 * int(given) if given is not None and str(given).isdigit() else 0
    acquired = doubts = losses = 0
    for seed in range(first, first + ROUNDS):
        print(f"seed {seed}")
        done = simulate(seed)
        assert not done.violations, f"seed {seed}: {done.violations[:5]}"
        acquired += len(done.epochs)
        doubts += done.doubts
        losses += done.losses
    # The rounds showed what they are for.
    assert acquired > 10 * ROUNDS
    assert doubts > ROUNDS
    assert losses > ROUNDS / 4


def counts_from_the_answer(lease: Lease) -> None:
    write = lease._object.write

    async def late(record, etag, *, timeout_s):
        version = await write(record, etag, timeout_s=timeout_s)
        lease._object.ours = version._replace(sent_at=lease._clock())
        return lease._object.ours

    lease._object.write = late


def writes_the_same_again(lease: Lease) -> None:
    lease._object._nonce = lambda: lease.holder


def takes_after_half_the_time(lease: Lease) -> None:
    take, clock = lease._take_if_free, lease._clock

    async def hasty(found):
        lease._clock = lambda: 2 * clock()
        try:
            return await take(found)
        finally:
            lease._clock = clock

    lease._take_if_free = hasty


@pytest.mark.parametrize("broken", [counts_from_the_answer, writes_the_same_again, takes_after_half_the_time])
def test_the_simulation_finds_what_is_broken(broken: Callable[[Lease], None], monkeypatch: pytest.MonkeyPatch) -> None:
    if broken is counts_from_the_answer:
        monkeypatch.setattr(module, "MARGIN", 0.1)  # still more than the clocks differ
    assert any(simulate(seed, broken).violations for seed in range(10))


def test_the_simulation_finds_a_margin_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MARGIN", -0.1)
    assert any(simulate(seed).violations for seed in range(10))
