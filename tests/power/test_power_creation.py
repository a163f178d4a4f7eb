"""A power cut while the file is made: every moment, and every combination of names that the folder may be left with."""

from __future__ import annotations

import ctypes
import itertools
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import apsw
import pytest
from power_campaign import scratch
from power_disk import ALL_LEFT, NOTHING_LEFT, Create, Delete, Disk, File, Image, SyncFolder
from power_recorder import RecordedFile, Recorder
from power_session import NAME
from power_state import open_and_check

from perdure import Engine, workflow
from perdure.store.sqlite import SqliteStore


@workflow
async def one() -> int:
    return 1


def every_folder(disk: Disk) -> Iterator[Image]:
    """Give all combinations of the files that a name may stand for, with nothing and with everything that was
    written to them since their last sync."""
    names = list({**disk.durable, **disk.pending})
    stages = [[disk.durable.get(name), *disk.pending.get(name, [])] for name in names]
    for chosen in itertools.product(*({*files} for files in stages)):
        left = [(name, disk.files[file]) for name, file in zip(names, chosen, strict=True) if file is not None]
        for contents in itertools.product((False, True), repeat=len(left)):
            yield {name: _content(file, all_) for (name, file), all_ in zip(left, contents, strict=True)}


def _content(file: File, all_: bool) -> bytes:
    return file.left(ALL_LEFT if all_ else NOTHING_LEFT, random.Random(0))


@pytest.fixture(scope="module")
def images() -> list[Image]:
    """All that a power cut may leave of a file that is being made, each once."""
    with scratch() as folder, Recorder(folder) as recorder:
        SqliteStore(folder / NAME).close()
    disk, found = Disk({}), {}
    for step in recorder.steps:
        for image in every_folder(disk):
            found[tuple(sorted(image.items()))] = image
        disk.apply(step)
    return list(found.values())


def test_it_opens_and_is_whole(images):
    assert len(images) > 30
    assert any(f"{NAME}-journal" in image and f"{NAME}-wal" in image for image in images)
    with scratch() as folder:
        for number, image in enumerate(images):
            place = folder / str(number)
            place.mkdir()
            for name, content in image.items():
                (place / name).write_bytes(content)
            open_and_check(place / NAME).close()


async def test_an_engine_works_on_what_is_left(images):
    with scratch() as folder:
        for number, image in enumerate(random.Random(0).sample(images, 10)):
            place = folder / str(number)
            place.mkdir()
            for name, content in image.items():
                (place / name).write_bytes(content)
            async with Engine(place / NAME, [one]) as engine:
                assert await (await engine.start(one)).result() == 1


def test_the_folder_is_synced_when_the_model_says_so(tmp_path, monkeypatch):
    """The model's one guess: SQLite syncs the folder with the first sync of a log or journal. It opens it for that."""
    record = RecordedFile.xSync

    def sync_and_record(self: RecordedFile, flags: int) -> None:
        apsw.VFSFile.xSync(self, flags)
        record(self, flags)

    monkeypatch.setattr(RecordedFile, "xSync", sync_and_record)
    with Recorder(tmp_path) as recorder, openings_of_folders(recorder) as opened:
        SqliteStore(tmp_path / NAME).close()
    assert {type(step) for step in recorder.steps} >= {Create, Delete, SyncFolder}
    assert opened == [at - 1 for at, step in enumerate(recorder.steps) if step == SyncFolder()]


@contextmanager
def openings_of_folders(recorder: Recorder) -> Iterator[list[int]]:
    """Note after how many steps SQLite opens a folder."""
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int))
    address = recorder.xGetSystemCall("openDirectory")
    assert address
    real, noted = kind(address), []

    def note(path: bytes, fd: Any) -> int:
        noted.append(len(recorder.steps))
        return real(path, fd)

    replaced = kind(note)
    recorder.xSetSystemCall("openDirectory", ctypes.cast(replaced, ctypes.c_void_p).value or 0)
    try:
        yield noted
    finally:
        recorder.xSetSystemCall("openDirectory", address)
