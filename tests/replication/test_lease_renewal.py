"""A lease is kept, is doubtful in time, and is lost for good reasons only; on virtual time."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Any

import pytest
from lease_shop import AWAY, LOOK_S, Shop, kill, seconds, virtually
from lease_simulation import TTL_S, MemoryStore

from perdure.errors import StaleRunner
from perdure.replication.lease import MARGIN
from perdure.replication.lease_object import KEY
from perdure.replication.lease_state import LeaseLost, LeaseState
from perdure.replication.refusal import BucketConflict
from perdure.replication.uptime import uptime_s

# --- keeping and losing it ------------------------------------------------------------------------------------------


@virtually
async def test_it_is_renewed_three_times_a_ttl() -> None:
    shop = Shop()
    lease = shop.lease("a")
    await lease.acquire()
    calls = lease.bucket.calls
    await asyncio.sleep(30 * TTL_S)
    assert 85 <= lease.bucket.calls - calls <= 91
    assert not lease._object._sent  # nothing is kept of what is settled
    assert lease.states == [LeaseState.WAITING, LeaseState.HELD]
    await lease.release()


@virtually
async def test_who_cannot_renew_is_doubtful_before_another_can_take_it() -> None:
    shop = Shop()
    first, second = shop.lease("a"), shop.lease("b")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(2 * TTL_S)
    first.bucket.fail = AWAY
    while first.valid():
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert first.state is LeaseState.DOUBTFUL
    with pytest.raises(LeaseLost, match="could not be renewed") as caught:
        first.check()
    assert isinstance(caught.value, StaleRunner)
    await waiting
    assert first.state is LeaseState.DOUBTFUL  # it cannot know yet
    first.bucket.fail = None
    await asyncio.wait_for(first.lost.wait(), TTL_S)
    assert first.state is LeaseState.LOST
    with pytest.raises(LeaseLost, match="b runs the database now, with epoch 2"):
        first.check()
    await first.release()  # changes nothing
    assert (shop.record.holder, shop.record.released) == ("b", False)
    await second.release()


@virtually
async def test_after_an_outage_it_goes_on_with_its_epoch_if_nobody_took_it() -> None:
    shop = Shop()
    lease = shop.lease("a")
    await lease.acquire()
    lease.bucket.fail = AWAY
    await asyncio.sleep(10 * TTL_S)
    assert not lease.valid()
    lease.bucket.fail = None
    await asyncio.sleep(TTL_S / 10)
    lease.check()
    assert lease.states == [LeaseState.WAITING, LeaseState.HELD, LeaseState.DOUBTFUL, LeaseState.HELD]
    assert (lease.epoch, lease.problem) == (1, None)
    await lease.release()


@virtually
async def test_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    lease = Shop().lease("a")
    await lease.acquire()
    lease.bucket.fail = AWAY
    with caplog.at_level(logging.INFO, "perdure.replication"):
        await asyncio.sleep(10 * TTL_S)
        lease.bucket.fail = None
        await asyncio.sleep(TTL_S)
    told = [record.message for record in caplog.records]
    for text in ("cannot be reached", "doubtful", "renewed again"):
        assert sum(text in line for line in told) == 1, text
    await lease.release()


@virtually
async def test_after_a_pause_it_is_not_valid_from_the_first_moment() -> None:
    """SIGSTOP, or a closed lid: the loop did not run, the clock did."""
    shop = Shop()
    lease = shop.lease("a")
    await lease.acquire()
    await asyncio.sleep(TTL_S)
    assert lease.valid()
    shop.skipped_s = TTL_S
    assert not lease.valid()
    with pytest.raises(LeaseLost):
        lease.check()
    await asyncio.sleep(TTL_S)  # nobody took it: it goes on
    assert lease.valid()
    await lease.release()


@virtually
async def test_a_lease_that_was_deleted_or_spoiled_is_lost() -> None:
    for spoil, said in [(lambda s: s.objects.pop(KEY), "deleted"), (_overwrite, "is not a lease")]:
        shop = Shop()
        lease = shop.lease("a")
        await lease.acquire()
        spoil(shop.store)
        await asyncio.wait_for(lease.lost.wait(), TTL_S)
        with pytest.raises(LeaseLost, match=said):
            lease.check()
        await lease.release()


@virtually
async def test_who_lost_it_may_wait_for_it_again() -> None:
    shop = Shop()
    first, second = shop.lease("a"), shop.lease("b", known_dead={"a"})
    await first.acquire()
    await second.acquire()
    await first.lost.wait()
    await first.release()
    waiting = asyncio.create_task(first.acquire())
    await asyncio.sleep(TTL_S)
    assert not waiting.done()
    await second.release()
    assert await waiting == 3
    assert not first.lost.is_set()
    await first.release()


@virtually
async def test_an_unexpected_fault_lets_it_run_out_instead_of_keeping_it() -> None:
    lease = Shop().lease("a")
    await lease.acquire()
    lease.bucket.fail = RuntimeError("a bug")
    await asyncio.sleep(2 * TTL_S)
    assert (lease.valid(), lease.state, lease.problem) == (False, LeaseState.DOUBTFUL, "a bug")
    lease.bucket.fail = None
    await asyncio.sleep(TTL_S)
    assert lease.valid()
    await lease.release()


@virtually
async def test_a_hook_that_fails_disturbs_nothing() -> None:
    def hook(state: LeaseState) -> None:
        raise ValueError(state)

    lease = Shop().lease("a", on_state=hook)
    await lease.acquire()
    await asyncio.sleep(3 * TTL_S)
    assert lease.valid()
    await lease.release()


# --- answers that are lost ------------------------------------------------------------------------------------------


@virtually
async def test_a_lease_whose_answer_was_lost_is_ours() -> None:
    shop = Shop()
    lease = shop.lease("a")
    lease.bucket.fail_after = AWAY
    waiting = asyncio.create_task(lease.acquire())
    await asyncio.sleep(0)
    lease.bucket.fail_after = None
    assert await seconds(waiting) <= LOOK_S
    assert (lease.epoch, lease.valid()) == (1, True)
    await lease.release()


@virtually
async def test_a_refusal_of_what_was_done_is_not_believed() -> None:
    """A proxy that sent the request twice gives the answer to the second."""
    shop = Shop()
    lease = shop.lease("a")
    lease.bucket.fail_after = BucketConflict("changed")
    waiting = asyncio.create_task(lease.acquire())
    await asyncio.sleep(0)
    lease.bucket.fail_after = None
    assert await seconds(waiting) <= LOOK_S
    assert lease.epoch == 1
    lease.bucket.fail_after = BucketConflict("changed")
    await asyncio.sleep(TTL_S / 2)
    lease.bucket.fail_after = None
    await asyncio.sleep(TTL_S)
    assert (lease.state, lease.valid()) == (LeaseState.HELD, True)
    await lease.release()


@virtually
async def test_renewals_whose_answers_were_lost_count_from_when_they_were_sent() -> None:
    shop = Shop()
    lease = shop.lease("a")
    await lease.acquire()
    lease.bucket.fail_after = AWAY
    before = shop.record.nonce
    while shop.record.nonce == before:
        await asyncio.sleep(0.1)
    sent_at = asyncio.get_running_loop().time()
    lease.bucket.fail = AWAY
    await asyncio.sleep(TTL_S * 0.2)
    lease.bucket.fail = lease.bucket.fail_after = None
    read = lease._object.read

    async def once(**options: Any) -> Any:
        found = await read(**options)
        lease.bucket.fail = AWAY  # it is recognized, and not renewed any more
        return found

    lease._object.read = once
    await asyncio.sleep(TTL_S * 0.2)
    ends_at = asyncio.get_running_loop().time() + lease.remaining_s()
    assert sent_at + TTL_S * (1 - MARGIN) - 0.2 <= ends_at <= sent_at + TTL_S * (1 - MARGIN)
    await kill(lease)


@virtually
async def test_a_renewal_that_arrives_after_it_was_given_up_is_ours() -> None:
    shop = Shop()
    lease = shop.lease("a")
    await lease.acquire()
    late: list[Any] = []
    call = lease.bucket.call

    async def lose(apply: Any, timeout_s: float | None, *, write: bool = True) -> Any:
        if write:
            late.append(apply)
        raise AWAY

    lease.bucket.call = lose
    await asyncio.sleep(TTL_S / 2)
    lease.bucket.call = call
    late[0]()  # now, before it is tried again
    await asyncio.sleep(2 * TTL_S)
    assert (lease.state, lease.epoch, lease.valid()) == (LeaseState.HELD, 1, True)
    for write in late[1:]:
        with pytest.raises(BucketConflict):
            write()
    await lease.release()


# --- the clock ------------------------------------------------------------------------------------------------------


def test_the_clock_counts_suspension(monkeypatch: pytest.MonkeyPatch) -> None:
    assert uptime_s() <= uptime_s()
    asked: list[int] = []
    monkeypatch.setattr(time, "clock_gettime", lambda which: asked.append(which) or 0.0)
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    uptime_s()
    monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    uptime_s()
    assert asked == [7, time.CLOCK_MONOTONIC]


def _overwrite(store: MemoryStore) -> None:
    store.objects[KEY] = b"spoiled"
