"""The disk that loses its power keeps what was synced, and may lose, keep or spoil every part of the rest."""

from __future__ import annotations

import random

from power_disk import (
    ALL_LEFT,
    NOTHING_LEFT,
    Create,
    Delete,
    Disk,
    Loss,
    Sync,
    SyncFolder,
    Truncate,
    Write,
)

OLD, NEW = b"o" * 4096, b"n" * 4096


def images(disk: Disk, loss: Loss, count: int = 300) -> list[dict[str, bytes]]:
    return [disk.cut(loss, random.Random(number)) for number in range(count)]


def drawn(disk: Disk, count: int = 300) -> list[dict[str, bytes]]:
    """Give what is left by losses of every kind."""
    choices = [random.Random(number) for number in range(count)]
    return [disk.cut(Loss.draw(choose), choose) for choose in choices]


def test_what_was_synced_is_there_whatever_is_lost():
    disk = Disk({"a": OLD})
    disk.apply_all([Write(0, 0, NEW), Sync(0), Write(0, 4096, NEW)])
    assert all(image["a"][:4096] == NEW for image in drawn(disk))


def test_without_a_sync_nothing_may_be_left_or_everything_or_any_part():
    disk = Disk({"a": OLD})
    disk.apply(Write(0, 0, NEW))
    assert disk.cut(NOTHING_LEFT, random.Random(0))["a"] == OLD
    assert disk.cut(ALL_LEFT, random.Random(0))["a"] == NEW
    sectors = {image["a"][at : at + 512] for image in images(disk, Loss(0.5)) for at in range(0, 4096, 512)}
    assert sectors == {OLD[:512], NEW[:512]}
    mixed = {image["a"] for image in images(disk, Loss(0.5))}
    assert len(mixed) > 100


def test_a_later_write_may_be_there_without_an_earlier_one():
    disk = Disk({"a": OLD + OLD})
    disk.apply_all([Write(0, 0, NEW), Write(0, 4096, NEW)])
    assert OLD + NEW in {image["a"] for image in images(disk, Loss(0.5, 0))}


def test_a_torn_write_ends_anywhere():
    disk = Disk({"a": OLD})
    disk.apply(Write(0, 0, NEW))
    ends = {len(image["a"].rstrip(b"o")) for image in images(disk, Loss(1.0, in_order=True), 2_000)}
    assert len(ends) > 500


def test_what_is_not_kept_may_be_garbage_but_only_where_something_was_written():
    disk = Disk({"a": OLD})
    disk.apply(Write(0, 100, NEW[:1000]))
    left = [image["a"] for image in images(disk, Loss(0.3, 512, 0.9))]
    assert all(one[:100] == OLD[:100] and one[1100:] == OLD[1100:] for one in left)
    assert any(set(one[100:1100]) - set(b"on\0") for one in left)


def test_a_truncation_may_be_lost():
    disk = Disk({"a": OLD})
    disk.apply(Truncate(0, 100))
    assert {len(image["a"]) for image in images(disk, Loss(0.5))} == {100, 4096}


def test_a_write_past_the_end_may_leave_a_hole():
    disk = Disk({"a": b""})
    disk.apply_all([Write(0, 0, NEW), Write(0, 4096, NEW)])
    assert bytes(4096) + NEW in {image["a"] for image in images(disk, Loss(0.5, 0))}


def test_a_new_file_may_be_missing_until_its_folder_is_synced():
    disk = Disk({})
    disk.apply_all([Create("a", 0), Write(0, 0, NEW), Sync(0)])
    assert {image.get("a") for image in drawn(disk)} == {None, NEW}
    disk.apply(SyncFolder())
    assert {image.get("a") for image in drawn(disk)} == {NEW}


def test_a_deleted_file_may_be_back_until_its_folder_is_synced():
    disk = Disk({"a": OLD})
    disk.apply_all([Delete("a"), Create("a", 1), Write(1, 0, NEW), Sync(1)])
    assert {image.get("a") for image in drawn(disk)} == {None, OLD, NEW}
    disk.apply(SyncFolder())
    assert {image.get("a") for image in drawn(disk)} == {NEW}


def test_what_a_sync_that_failed_has_lost_no_later_one_brings_back():
    lost = 0
    for number in range(50):
        disk = Disk({"a": OLD}, random.Random(number))
        disk.apply_all([Write(0, 0, NEW), Sync(0, failed=True), Sync(0)])
        left = {image["a"] for image in drawn(disk, 20)}
        assert len(left) == 1
        lost += left != {NEW}
    assert lost
