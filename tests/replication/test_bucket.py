"""A bucket does the same on every store, keeps to its conditions, and fails in words."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from servers import S3Server, black_hole, scripted_server

from perdure.replication import bucket as module
from perdure.replication.bucket import Bucket
from perdure.replication.folder import LOCK_NAME, swap
from perdure.replication.refusal import (
    BucketConflict,
    BucketDenied,
    BucketError,
    BucketMissing,
    BucketUnreachable,
)
from perdure.replication.target import Target

Open = Callable[..., Bucket]


@pytest.fixture(params=["moto", "rclone", "file"])
def any_bucket(request: pytest.FixtureRequest, bucket_name: str, tmp_path: Path) -> Bucket:
    if request.param == "file":
        return Bucket.open(Target.parse(f"file://{tmp_path}/bucket/shop"))
    server: S3Server = request.getfixturevalue(request.param)
    return Bucket.open(Target.parse(server.url(bucket_name, "shop")))


@pytest.fixture(params=["moto", "file"])
def conditional_bucket(request: pytest.FixtureRequest, bucket_name: str, tmp_path: Path) -> Bucket:
    if request.param == "file":
        return Bucket.open(Target.parse(f"file://{tmp_path}/bucket/shop"))
    server: S3Server = request.getfixturevalue(request.param)
    return Bucket.open(Target.parse(server.url(bucket_name, "shop")))


# --- objects --------------------------------------------------------------------------------------------------------


async def test_an_object_is_written_read_listed_and_deleted(any_bucket: Bucket, tmp_path: Path) -> None:
    bucket = any_bucket
    assert await bucket.get("a.json") is None
    assert await bucket.entries() == []
    etag = await bucket.put("a.json", b"one")
    assert await bucket.get("a.json") == (b"one", etag)
    await bucket.put("a.json", b"two")
    (tmp_path / "file").write_bytes(b"from a file")
    await bucket.put("00000001/0000/b", tmp_path / "file")
    await bucket.put("00000002/b", b"")
    entries = await bucket.entries()
    assert [(entry.key, entry.size_bytes) for entry in entries] == [
        ("00000001/0000/b", 11),
        ("00000002/b", 0),
        ("a.json", 3),
    ]
    assert all(abs(entry.modified_at - datetime.now(UTC)) < timedelta(minutes=5) for entry in entries)
    assert [entry.key for entry in await bucket.entries("00000001")] == ["00000001/0000/b"]
    assert await bucket.folders() == ["00000001", "00000002"]
    assert await bucket.folders("00000001") == ["0000"]
    await bucket.delete("a.json")
    await bucket.delete("a.json")
    assert await bucket.get("a.json") is None


async def test_a_child_sees_only_what_is_below_it(any_bucket: Bucket) -> None:
    child = any_bucket.child("tenants/a")
    await any_bucket.put("x", b"above")
    await any_bucket.put("tenants/ab/x", b"beside")
    await child.put("x", b"below")
    assert [entry.key for entry in await child.entries()] == ["x"]
    assert (await any_bucket.get("tenants/a/x") or (b"",))[0] == b"below"
    assert child.name.endswith("/shop/tenants/a")


async def test_the_whole_bucket_is_a_prefix_too(moto: S3Server, bucket_name: str) -> None:
    bucket = Bucket.open(Target.parse(moto.url(bucket_name)))
    await bucket.put("a/b", b"1")
    assert [entry.key for entry in await bucket.entries()] == ["a/b"]
    assert await bucket.folders() == ["a"]


# --- conditions -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("server", "honours"), [("moto", True), ("rclone", False)])
async def test_whether_conditions_count_is_found_out(
    server: str, honours: bool, request: pytest.FixtureRequest, bucket_name: str
) -> None:
    bucket = Bucket.open(Target.parse(request.getfixturevalue(server).url(bucket_name, "shop")))
    assert await bucket.honours_conditions() is honours
    assert await bucket.entries() == []  # it leaves nothing behind


async def test_a_folder_honours_conditions(tmp_path: Path) -> None:
    bucket = Bucket.open(Target.parse(f"file://{tmp_path}/shop"))
    assert await bucket.honours_conditions()
    assert await bucket.entries() == []


async def test_a_store_is_probed_once(bucket_name: str, tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        asked.append(method)
        return (200, "") if method == "PUT" else (204, "")

    with scripted_server(answer) as endpoint:
        bucket = Bucket.open(Target.parse(f"s3://shop/a?endpoint={endpoint}"))
        assert not await bucket.honours_conditions()
        probed = len(asked)
        assert not await bucket.honours_conditions()
        assert not await bucket.child("tenant").honours_conditions()
    assert probed == len(asked) > 0


async def test_a_store_that_answers_conditions_with_an_error_has_none() -> None:
    """Some answer 501, "a header you provided implies functionality that is not implemented"."""

    def answer(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        conditional = "If-None-Match" in headers or "If-Match" in headers
        return (501, "<Error><Code>NotImplemented</Code></Error>") if conditional else (200, "")

    with scripted_server(answer) as endpoint:
        assert not await Bucket.open(Target.parse(f"s3://shop/a?endpoint={endpoint}")).honours_conditions()


@pytest.mark.parametrize("honoured", ["If-None-Match", "If-Match"])
async def test_a_store_that_honours_one_kind_of_condition_is_not_enough(honoured: str) -> None:
    there: set[str] = set()

    def answer(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        held = "If-None-Match" not in headers or path not in there
        held = held and headers.get("If-Match", '"scripted"') == '"scripted"'
        if method == "PUT" and honoured in headers and not held:
            return 412, ""
        there.add(path)
        return 200, ""

    with scripted_server(answer) as endpoint:
        assert not await Bucket.open(Target.parse(f"s3://shop/a?endpoint={endpoint}")).honours_conditions()


async def test_a_store_that_is_away_is_not_taken_for_one_without_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    with scripted_server(lambda *request: (503, "")) as endpoint:
        with pytest.raises(BucketUnreachable):
            await Bucket.open(Target.parse(f"s3://shop/a?endpoint={endpoint}")).honours_conditions()


async def test_create_and_replace_keep_to_their_condition(conditional_bucket: Bucket) -> None:
    bucket = conditional_bucket
    with pytest.raises(BucketConflict):
        await bucket.replace("a", b"0", '"00000000000000000000000000000000"')  # it is not there
    first = await bucket.create("a", b"1")
    with pytest.raises(BucketConflict):
        await bucket.create("a", b"2")
    second = await bucket.replace("a", b"3", first)
    with pytest.raises(BucketConflict):
        await bucket.replace("a", b"4", first)
    assert await bucket.get("a") == (b"3", second)
    with pytest.raises(BucketError, match="etag"):
        await bucket.replace("a", b"5", "")


async def test_of_many_who_swap_one_wins(conditional_bucket: Bucket) -> None:
    async def won(write: Callable[[], object]) -> bool:
        try:
            await write()  # type: ignore[misc] # a coroutine
        except BucketConflict:
            return False
        return True

    bucket = conditional_bucket
    created = await asyncio.gather(*(won(lambda n=n: bucket.create("a", b"%d" % n)) for n in range(8)))
    assert created.count(True) == 1
    for turn in range(5):
        found = await bucket.get("a")
        assert found is not None
        swaps = (won(lambda n=n: bucket.replace("a", b"%d.%d" % (turn, n), found.etag)) for n in range(8))  # noqa: B023
        assert (await asyncio.gather(*swaps)).count(True) == 1


def test_swaps_in_a_folder_exclude_each_other_across_threads(tmp_path: Path) -> None:
    target = Target.parse(f"file://{tmp_path}")
    store = target.store()
    Path(tmp_path, "n").write_bytes(b"0")

    def add(_: int) -> int:
        import obstore

        tries = 0
        while True:
            tries += 1
            found = obstore.get(store, "n")
            data, etag = bytes(found.bytes()), found.meta["e_tag"]
            try:
                swap(store, tmp_path, "n", b"%d" % (int(data) + 1), etag or "", 10.0)
                return tries
            except BucketConflict:
                continue

    with ThreadPoolExecutor(8) as pool:
        tries = sum(pool.map(add, range(100)))
    assert Path(tmp_path, "n").read_bytes() == b"100"
    assert tries > 100, "nobody was ever in another's way: this tested nothing"


async def test_a_stopped_holder_of_a_folders_lock_does_not_stop_others_for_ever(tmp_path: Path) -> None:
    import fcntl

    bucket = Bucket.open(Target.parse(f"file://{tmp_path}"))
    etag = await bucket.create("a", b"1")
    with open(tmp_path / LOCK_NAME, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(BucketUnreachable):
            await bucket.replace("a", b"2", etag, timeout_s=0.05)
    await bucket.replace("a", b"2", etag)


# --- failing --------------------------------------------------------------------------------------------------------


async def test_a_server_that_never_answers_costs_the_timeout() -> None:
    with black_hole() as endpoint:
        bucket = Bucket.open(Target.parse(f"s3://shop/a?endpoint={endpoint}"), timeout_s=60.0)
        began = time.monotonic()
        with pytest.raises(BucketUnreachable, match=r"no answer within 0\.05 s"):
            await bucket.create("x", b"", timeout_s=0.05)
        with pytest.raises(BucketUnreachable, match="read x"):
            await bucket.get("x", timeout_s=0.05)
        assert time.monotonic() - began < 30.0


async def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    bucket = Bucket.open(Target.parse("s3://shop/a?endpoint=http://127.0.0.1:1"))
    for call in (bucket.get("x"), bucket.put("x", b""), bucket.create("x", b""), bucket.entries(), bucket.delete("x")):
        with pytest.raises(BucketUnreachable) as caught:
            await call
        assert caught.value.hint


async def test_only_what_can_do_no_harm_twice_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    asked: list[str] = []

    def answer(method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        asked.append(method)
        return (503, "<Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>")

    with scripted_server(answer) as endpoint:
        bucket = Bucket.open(Target.parse(f"s3://shop/a?endpoint={endpoint}"))
        for call, tries in [
            (bucket.get("x"), 3),
            (bucket.put("x", b""), 3),
            (bucket.delete("x"), 3),
            (bucket.entries(), 3),
            (bucket.create("x", b""), 1),
            (bucket.replace("x", b"", '"e"'), 1),
        ]:
            asked.clear()
            with pytest.raises(BucketUnreachable, match="SlowDown Reduce your request rate"):
                await call
            assert len(asked) == tries


async def test_a_conflict_of_two_creations_is_no_answer_about_the_object() -> None:
    """S3 may answer 409 to both; that it is a `BucketConflict` means: read, and decide again."""
    with scripted_server(lambda *request: (409, "<Error><Code>ConditionalRequestConflict</Code></Error>")) as endpoint:
        bucket = Bucket.open(Target.parse(f"s3://shop/a?endpoint={endpoint}"))
        for call in (bucket.create("x", b""), bucket.replace("x", b"", '"e"')):
            with pytest.raises(BucketConflict):
                await call


async def test_a_bucket_that_is_not_there(moto: S3Server) -> None:
    bucket = Bucket.open(Target.parse(f"s3://no-such-bucket/a?endpoint={moto.endpoint}&region=us-east-1"))
    for call in (bucket.put("x", b""), bucket.create("x", b"")):
        with pytest.raises(BucketMissing) as caught:
            await call
        assert "create the bucket" in caught.value.hint


async def test_wrong_keys_are_refused_without_being_shown(
    rclone: S3Server, bucket_name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong-secret")
    bucket = Bucket.open(Target.parse(rclone.url(bucket_name, "shop")))
    with pytest.raises(BucketDenied) as caught:
        await bucket.put("x", b"")
    assert "wrong-secret" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert "keys" in caught.value.hint


async def test_errors_are_short_whatever_the_store_says() -> None:
    with scripted_server(lambda *request: (400, "<html>" + "x" * 100_000)) as endpoint:
        bucket = Bucket.open(Target.parse(f"s3://shop/a?endpoint={endpoint}"))
        with pytest.raises(BucketUnreachable) as caught:
            await bucket.create("x", b"")
    assert len(str(caught.value)) < 600
