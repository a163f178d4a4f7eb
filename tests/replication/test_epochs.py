"""Which epoch is the truth: it goes forward only, whoever asks, and there is always an order to fall back in."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers import S3Server

from perdure.errors import InternalError, StaleRunner
from perdure.replication.bucket import Bucket
from perdure.replication.epochs import KEPT_ERAS, KEY, Candidate, Epochs, EpochsDamaged, WrongDatabase, path_of
from perdure.replication.refusal import BucketUnreachable
from perdure.replication.target import Target

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


class Clock:
    """An hour goes by each time it is asked."""

    def __init__(self) -> None:
        self.at = NOON - timedelta(hours=1)

    def __call__(self) -> datetime:
        self.at += timedelta(hours=1)
        return self.at


@pytest.fixture(params=["moto", "rclone", "file"])
def bucket(request: pytest.FixtureRequest, bucket_name: str, tmp_path: Path) -> Bucket:
    if request.param == "file":
        return Bucket.open(Target.parse(f"file://{tmp_path}/bucket/shop"))
    server: S3Server = request.getfixturevalue(request.param)
    return Bucket.open(Target.parse(server.url(bucket_name, "shop")))


@pytest.fixture
def folder(tmp_path: Path) -> Bucket:
    return Bucket.open(Target.parse(f"file://{tmp_path}/shop"))


async def stream(bucket: Bucket, *epochs: int) -> None:
    """Make paths as Litestream does."""
    for epoch in epochs:
        await bucket.put(f"{path_of(epoch)}/0000/0000000000000001-0000000000000001.ltx", b"pages")


async def test_the_truth_goes_forward(bucket: Bucket) -> None:
    epochs = Epochs(bucket, Clock())
    assert await epochs.current() is None
    assert await epochs.highest() == 0
    assert await epochs.candidates() == []
    first = await epochs.advance(1, database_id="d", schema_version=3, holder="a")
    assert first == await epochs.current()
    assert (first.epoch, first.path, first.committed_at, first.earlier) == (1, "00000001", NOON, ())
    assert await epochs.advance(1, database_id="d", schema_version=3, holder="a") == first  # twice is fine
    await epochs.advance(4, database_id="d", holder="b")
    await stream(bucket, 1, 4, 6)
    assert await epochs.all() == [1, 4, 6]
    assert await epochs.highest() == 6
    with pytest.raises(StaleRunner, match="epoch 4 is the truth, not 3"):
        await epochs.advance(3, database_id="d", holder="a")
    with pytest.raises(StaleRunner, match="belongs to b"):
        await epochs.advance(4, database_id="d", holder="a")
    assert [era.epoch for era in (await epochs.current() or first).earlier] == [1]


async def test_a_prefix_belongs_to_one_database(folder: Bucket) -> None:
    epochs = Epochs(folder)
    await epochs.advance(1, database_id="d")
    with pytest.raises(WrongDatabase) as caught:
        await epochs.advance(2, database_id="e")
    assert "prefix of its own" in caught.value.hint


async def test_of_two_that_advance_at_once_the_later_epoch_stays(moto: S3Server, bucket_name: str) -> None:
    url = moto.url(bucket_name, "shop")
    several = [Epochs(Bucket.open(Target.parse(url))) for _ in range(6)]
    done = await asyncio.gather(
        *(epochs.advance(n, database_id="d", holder=str(n)) for n, epochs in enumerate(several, 1)),
        return_exceptions=True,
    )
    assert all(isinstance(result, StaleRunner) for result in done if isinstance(result, BaseException))
    current = await several[0].current()
    assert current is not None
    assert current.epoch == 6
    known = [era.epoch for era in current.earlier]
    assert known == sorted(set(known))
    assert {result.epoch for result in done if not isinstance(result, BaseException)} == {*known, 6}


async def test_an_answer_that_was_lost_is_found_when_it_is_done_again(folder: Bucket) -> None:
    epochs = Epochs(folder)
    create = folder.create

    async def lose(*arguments: object, **options: object) -> str:
        await create(*arguments, **options)  # type: ignore[arg-type] # passed on
        raise BucketUnreachable("no answer")

    assert await folder.honours_conditions()
    folder.create = lose  # type: ignore[method-assign] # the network
    with pytest.raises(BucketUnreachable):
        await epochs.advance(1, database_id="d", holder="a")
    folder.create = create  # type: ignore[method-assign] # as it was
    assert (await epochs.advance(1, database_id="d", holder="a")).earlier == ()


async def test_the_order_to_fall_back_in(folder: Bucket) -> None:
    epochs = Epochs(folder)
    await stream(folder, 1, 2, 3, 4, 6, 7)
    for epoch in (1, 3, 4):  # 2 was overtaken before it was all there; 6 and 7 have not got so far
        await epochs.advance(epoch, database_id="d")
    assert await epochs.candidates() == [
        Candidate(4, "current"),
        Candidate(7, "unfinished"),
        Candidate(6, "unfinished"),
        Candidate(3, "earlier"),
        Candidate(2, "unfinished"),
        Candidate(1, "earlier"),
    ]


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b'{"epoch": "x"}', None])
async def test_without_a_readable_current_the_newest_comes_first(folder: Bucket, content: bytes | None) -> None:
    epochs = Epochs(folder)
    await stream(folder, 1, 2)
    await folder.put("other/x", b"not an epoch")
    if content is not None:
        await folder.put(KEY, content)
        with pytest.raises(EpochsDamaged) as caught:
            await epochs.current()
        assert "--epoch" in caught.value.hint
    assert await epochs.candidates() == [Candidate(2, "unfinished"), Candidate(1, "unfinished")]
    assert await epochs.highest() == 2


async def test_which_epoch_was_the_truth_at_an_instant(folder: Bucket) -> None:
    epochs = Epochs(folder, Clock())
    assert await epochs.at(NOON) is None
    for epoch in (1, 3, 4):
        await epochs.advance(epoch, database_id="d")
    hours = [-1, 0, 0.5, 1, 1.5, 2, 100]
    assert [await epochs.at(NOON + timedelta(hours=h)) for h in hours] == [None, 1, 1, 3, 3, 4, 4]


async def test_only_so_many_earlier_epochs_are_remembered(folder: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    assert KEPT_ERAS >= 100
    monkeypatch.setattr("perdure.replication.epochs.KEPT_ERAS", 3)
    epochs = Epochs(folder)
    for epoch in range(1, 7):
        await epochs.advance(epoch, database_id="d")
    current = await epochs.current()
    assert current is not None
    assert [era.epoch for era in current.earlier] == [3, 4, 5]


async def test_what_a_later_version_adds_is_passed_over(folder: Bucket) -> None:
    await folder.put(
        KEY, b'{"epoch":2,"path":"00000002","database_id":"d","committed_at":"2026-01-01T12:00:00Z","colour":"blue"}'
    )
    assert (await Epochs(folder).candidates())[0] == Candidate(2, "current")


async def test_an_epoch_is_removed_only_when_it_is_older_than_the_truth(bucket: Bucket) -> None:
    epochs = Epochs(bucket)
    await stream(bucket, 1, 2, 3)
    with pytest.raises(InternalError):
        await epochs.remove(1)
    await epochs.advance(2, database_id="d")
    for epoch in (2, 3):
        with pytest.raises(InternalError):
            await epochs.remove(epoch)
    assert await epochs.remove(1) == 1
    assert await epochs.all() == [2, 3]


async def test_an_epoch_is_expired_once_a_later_one_was_the_truth_already(folder: Bucket) -> None:
    epochs = Epochs(folder, Clock())
    assert await epochs.expired(NOON) == []
    await stream(folder, *range(1, 8))
    for epoch in (2, 4, 6):  # at noon, one and two o'clock; the others never were the truth
        await epochs.advance(epoch, database_id="d")
    for hours, expired in (
        (0, []),
        (0.5, [1]),
        (1, [1]),
        (1.5, [1, 2, 3]),
        (2.5, [1, 2, 3, 4, 5]),
        (99, [1, 2, 3, 4, 5]),
    ):
        assert await epochs.expired(NOON + timedelta(hours=hours)) == expired, hours
