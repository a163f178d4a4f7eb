"""How a lease is taken and given back, on virtual time and an object in memory."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import msgspec
import pytest
from lease_shop import AWAY, LOOK_S, Shop, kill, seconds, virtually
from lease_simulation import NOW, TTL_S

from perdure.replication.lease_object import KEY, LeaseRecord, LeaseRefused
from perdure.replication.lease_state import LeaseHeld, LeaseState
from perdure.replication.refusal import BucketDenied, BucketUnreachable

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
        with pytest.raises(LeaseHeld, match=r"by a \(epoch 1\)"):
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
async def test_who_releases_too_late_takes_nothing_from_the_next_one() -> None:
    shop = Shop()
    first, second = shop.lease("a"), shop.lease("b")
    await first.acquire()
    first.bucket.fail = AWAY
    await second.acquire()
    first.bucket.fail = None
    assert first.state is LeaseState.DOUBTFUL
    await first.release()
    assert (shop.record.holder, shop.record.released) == ("b", False)
    await second.release()


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


def _record(ttl_s: float = TTL_S) -> LeaseRecord:
    return LeaseRecord("x", 7, ttl_s, "n", NOW, NOW)
