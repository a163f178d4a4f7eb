"""What a lease promises to one holder and to the next, on virtual time and an object in memory."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

import msgspec
import pytest
from lease_simulation import NOW, TTL_S, MemoryBucket, MemoryStore
from virtual_time import run_virtually

from perdure.errors import StaleRunner
from perdure.replication.lease import MARGIN, Lease, LeaseHeld, LeaseLost, LeaseState
from perdure.replication.lease_object import KEY, LeaseRecord, LeaseRefused, read_record
from perdure.replication.refusal import BucketConflict, BucketDenied, BucketUnreachable
from perdure.replication.uptime import uptime_s

AWAY = BucketUnreachable("no answer")
LOOK_S = 1.0
"""How often one who waits looks."""


def virtually(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        run_virtually(test(*arguments, **options))

    return run


class Shop:
    """A database's prefix, with holders that each reach it by a bucket of their own."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.skipped_s = 0.0

    def clock(self) -> float:
        return asyncio.get_running_loop().time() + self.skipped_s

    def lease(self, holder: str, **options: Any) -> Lease:
        settings = {"ttl_s": TTL_S, "clock": self.clock, "now": lambda: NOW} | options
        lease = Lease(MemoryBucket(self.store), holder, **settings)  # type: ignore[arg-type] # as far as it needs one
        lease.states = []
        lease.on_state = options.get("on_state", lease.states.append)
        return lease

    @property
    def record(self) -> LeaseRecord:
        return read_record(self.store.objects[KEY], "shop")


async def kill(lease: Lease) -> None:
    """End it as `kill -9` would: nothing is said to anyone."""
    for task in lease._tasks:
        task.cancel()
    await asyncio.gather(*lease._tasks, return_exceptions=True)
    lease._tasks = []


async def seconds(call: Awaitable[Any]) -> float:
    """How long a call takes."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    await call
    return loop.time() - began


# --- taking it ------------------------------------------------------------------------------------------------------


@virtually
async def test_a_free_lease_is_taken_at_once() -> None:
    shop = Shop()
    lease = shop.lease("a")
    assert await seconds(lease.acquire()) == 0
    assert (lease.epoch, lease.state, lease.valid()) == (1, LeaseState.HELD, True)
    assert msgspec.json.decode(shop.store.objects[KEY]) == {
        "holder": "a", "epoch": 1, "ttl_s": TTL_S, "nonce": shop.record.nonce, "released": False,
        "acquired_at": "2026-01-01T00:00:00Z", "renewed_at": "2026-01-01T00:00:00Z",
    }  # fmt: skip
    await lease.release()


@virtually
async def test_a_released_lease_is_taken_at_once_and_by_a_waiting_one_soon() -> None:
    shop = Shop()
    first, second, third = shop.lease("a"), shop.lease("b"), shop.lease("c")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(3 * TTL_S)
    assert not waiting.done()
    await first.release()
    assert (first.state, first.valid()) == (LeaseState.RELEASED, False)
    assert await seconds(waiting) <= LOOK_S
    await second.release()
    assert await seconds(third.acquire()) == 0
    assert [first.epoch, second.epoch, third.epoch] == [1, 2, 3]
    assert second.states == [LeaseState.WAITING, LeaseState.HELD, LeaseState.RELEASED]
    await third.release()


@virtually
async def test_a_dead_holders_lease_is_taken_after_a_whole_ttl_of_watching() -> None:
    shop = Shop()
    first, second = shop.lease("a"), shop.lease("b")
    await first.acquire()
    await kill(first)
    await asyncio.sleep(100 * TTL_S)  # nobody watched: that counts for nothing
    assert TTL_S <= await seconds(second.acquire()) <= TTL_S + LOOK_S
    assert second.epoch == 2
    await second.release()


@virtually
async def test_who_watched_before_has_not_to_begin_again() -> None:
    shop = Shop()
    first, second = shop.lease("a"), shop.lease("b")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(3 * TTL_S)
    await kill(first)
    assert await seconds(waiting) <= TTL_S + LOOK_S
    await second.release()


@virtually
async def test_the_clocks_of_others_are_not_believed() -> None:
    for wrong in (datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 1, 1, tzinfo=UTC)):
        shop = Shop()
        first, second = shop.lease("a", now=lambda: wrong), shop.lease("b")  # noqa: B023
        await first.acquire()
        with pytest.raises(LeaseHeld, match="a .*epoch 1"):
            await second.acquire(patience_s=3 * TTL_S)
        await kill(first)
        assert TTL_S / 3 <= await seconds(second.acquire()) <= TTL_S + LOOK_S
        await second.release()


@virtually
async def test_the_holders_ttl_counts_not_that_of_who_waits() -> None:
    shop = Shop()
    first, second = shop.lease("a", ttl_s=50.0), shop.lease("b", ttl_s=1.0)
    await first.acquire()
    await kill(first)
    assert await seconds(second.acquire()) >= 50.0
    await second.release()


@virtually
async def test_a_holder_that_is_known_to_be_dead_is_not_waited_for() -> None:
    shop = Shop()
    first = shop.lease("a")
    await first.acquire()
    await kill(first)
    second = shop.lease("b", known_dead={"a"})
    assert await seconds(second.acquire()) == 0
    assert second.epoch == 2
    await second.release()


@virtually
async def test_an_epoch_is_above_all_that_were_used() -> None:
    shop = Shop()

    async def floor() -> int:
        return 41

    first = shop.lease("a", floor=floor)
    await first.acquire()
    await first.release()
    second = shop.lease("b")
    await second.acquire()
    await second.release()
    assert [first.epoch, second.epoch] == [42, 43]


@virtually
async def test_patience_ends_with_who_has_it() -> None:
    shop = Shop()
    first, second = shop.lease("web-1:17:aa"), shop.lease("b")
    await first.acquire()
    with pytest.raises(LeaseHeld, match=r"web-1:17:aa \(epoch 1\)") as caught:
        await second.acquire(patience_s=0.0)
    assert "silent" in caught.value.hint
    await second.release()
    assert not shop.record.released
    await first.release()


@virtually
async def test_a_store_without_conditions_is_refused() -> None:
    lease = Shop().lease("a")
    lease.bucket.conditional = False
    with pytest.raises(LeaseRefused, match="ignores conditional writes") as caught:
        await lease.acquire()
    assert "without a lease" in caught.value.hint


@virtually
async def test_what_is_not_a_lease_is_refused() -> None:
    for content in (b"", b"\xff", b"{}", b'{"holder":1}', msgspec.json.encode(_record(ttl_s=0.0))):
        shop = Shop()
        shop.store.objects[KEY] = content
        with pytest.raises(LeaseRefused, match="is not a lease") as caught:
            await shop.lease("a").acquire()
        assert caught.value.hint


@virtually
async def test_a_later_version_may_write_more() -> None:
    shop = Shop()
    data = msgspec.json.decode(msgspec.json.encode(_record())) | {"colour": "blue", "released": True}
    shop.store.objects[KEY] = msgspec.json.encode(data)
    lease = shop.lease("a")
    await lease.acquire()
    assert lease.epoch == 8
    await lease.release()


@virtually
async def test_acquiring_waits_for_a_bucket_that_is_away_but_not_for_one_that_refuses() -> None:
    lease = Shop().lease("a")
    lease.bucket.fail = AWAY
    waiting = asyncio.create_task(lease.acquire())
    await asyncio.sleep(5 * TTL_S)
    assert not waiting.done()
    assert "no answer" in (lease.problem or "")
    lease.bucket.fail = None
    assert await seconds(waiting) <= LOOK_S
    assert lease.problem is None
    await lease.release()
    lease.bucket.fail = AWAY
    with pytest.raises(BucketUnreachable):
        await lease.acquire(patience_s=TTL_S)
    lease.bucket.fail = BucketDenied("no")
    with pytest.raises(BucketDenied):
        await lease.acquire()


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


# --- keeping and losing it ------------------------------------------------------------------------------------------


@virtually
async def test_it_is_renewed_three_times_a_ttl() -> None:
    shop = Shop()
    lease = shop.lease("a")
    await lease.acquire()
    calls = lease.bucket.calls
    await asyncio.sleep(30 * TTL_S)
    assert 85 <= lease.bucket.calls - calls <= 91
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
    assert [sum(text in line for line in told) for text in ("cannot be reached", "doubtful", "renewed again")] == [
        1
    ] * 3
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


# --- giving it back -------------------------------------------------------------------------------------------------


@virtually
async def test_releasing_in_an_outage_never_raises(caplog: pytest.LogCaptureFixture) -> None:
    for fault in (AWAY, BucketDenied("no")):
        lease = Shop().lease("a")
        await lease.acquire()
        lease.bucket.fail = fault
        caplog.clear()
        await lease.release()
        assert lease.state is LeaseState.RELEASED
        assert "could not release" in caplog.text


@virtually
async def test_releasing_ends_a_lease_of_which_nobody_knew() -> None:
    """Its answer was lost, and nobody waits for it any more."""
    shop = Shop()
    lease = shop.lease("a")
    lease.bucket.fail_after = AWAY
    waiting = asyncio.create_task(lease.acquire())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    lease.bucket.fail_after = None
    await lease.release()
    assert shop.record.released


@virtually
async def test_a_block_releases_also_when_it_could_not_be_entered() -> None:
    shop = Shop()
    async with shop.lease("a") as lease:
        assert lease.valid()
    assert shop.record.released
    second = shop.lease("b")
    second.bucket.fail_after = BucketDenied("done, but said otherwise")
    with pytest.raises(BucketDenied):
        async with second:
            pytest.fail("entered")
    assert second.state is LeaseState.RELEASED


@virtually
async def test_a_lease_is_acquired_once() -> None:
    lease = Shop().lease("a")
    await lease.acquire()
    with pytest.raises(RuntimeError, match="already"):
        await lease.acquire()
    await lease.release()
    with pytest.raises(ValueError, match="ttl_s"):
        Shop().lease("a", ttl_s=0.0)


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


def _record(ttl_s: float = TTL_S) -> LeaseRecord:
    return LeaseRecord("x", 7, ttl_s, "n", NOW, NOW)


def _overwrite(store: MemoryStore) -> None:
    store.objects[KEY] = b"spoiled"
