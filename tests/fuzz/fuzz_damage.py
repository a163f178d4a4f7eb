"""Damage: what a bad disk, a cut copy or a stranger may make of a file as a whole, drawn from a seeded generator.

What must hold of any file: it is refused with an error of perdure's, or it is run, and whoever asks gets an answer or
an error of perdure's within a bounded time. Whether an answer is right cannot be told: a flipped bit may have changed
it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fuzz_command_line as command_line
from fuzz_canary import watching
from fuzz_workload import DAY_S, WORKFLOWS, Clock, Refused, drive, prepare, quick, quiet

from perdure import Client, Engine
from perdure.errors import PerdureError
from perdure.store.sqlite import startup

PAGE = 2048
WAL_HEADER, FRAME = 32, 24 + PAGE
PATIENCE_S = 1.0
"""How long an answer is waited for: a file that cannot be written to gives none."""
CLOSING_S = 10.0


def make_crashed(folder: Path) -> tuple[Path, list[str]]:
    """Write a file as a crash leaves it: the newest commits stand in its `-wal` only. Give it and the ids in it."""
    path, copy = folder / "base.db", folder / "crashed.db"

    async def write() -> list[str]:
        ids = await prepare(path, sets=1)
        async with Engine(path, WORKFLOWS, grace_s=0.0, synchronous="normal") as engine:
            for number in range(5):
                ids.append(f"quick-wal{number}")
                await engine.start(quick, ids[-1], id=ids[-1])
            await quiet(engine)
            for suffix in ("", "-wal"):
                shutil.copy(f"{path}{suffix}", f"{copy}{suffix}")
        return ids

    return copy, asyncio.run(write())


class Damage:
    """Damages the file at `path`, and says in `notes` how."""

    def __init__(self, path: Path, draw: random.Random) -> None:
        self.path = path
        self.wal = Path(f"{path}-wal")
        self.draw = draw
        self.notes: list[str] = []

    def some(self) -> None:
        acts: list[Callable[[], None]] = [
            self.flip_bits, self.flip_bits, self.flip_bits_of_wal, self.cut, self.cut_wal, self.swap_pages,
            self.zero_page, self.fill_page, self.drop_wal, self.change_header,
        ]  # fmt: skip
        for _ in range(self.draw.choice((1, 1, 1, 2))):
            self.draw.choice(acts)()

    def _write(self, path: Path, content: bytes, note: str) -> None:
        path.write_bytes(content)
        self.notes.append(f"{path.name}: {note}")

    def _flip(self, path: Path, first: int = 0) -> None:
        content = bytearray(path.read_bytes()) if path.exists() else bytearray()
        written = [at for at in range(first, len(content)) if content[at]]  # most of a file is zeros that nobody reads
        if not written:
            return
        places = [self.draw.choice(written) for _ in range(self.draw.choice((1, 2, 8, 64)))]
        for place in places:
            content[place] ^= 1 << self.draw.randrange(8)
        self._write(path, bytes(content), f"bits flipped at {places[:8]}")

    def flip_bits(self) -> None:
        self._flip(self.path, self.draw.choice((0, 100, PAGE)))

    def flip_bits_of_wal(self) -> None:
        self._flip(self.wal)

    def cut(self) -> None:
        size = self.path.stat().st_size
        edge = self.draw.randrange(size // PAGE + 1) * PAGE
        at = self.draw.choice((0, 1, 15, 16, 99, 100, 512, edge, edge + 1, max(edge - 1, 0), self.draw.randrange(size)))
        self._write(self.path, self.path.read_bytes()[:at], f"cut at {at} of {size}")

    def cut_wal(self) -> None:
        size = self.wal.stat().st_size if self.wal.exists() else 0
        if size:
            edge = WAL_HEADER + self.draw.randrange(size // FRAME + 1) * FRAME
            at = self.draw.choice((0, 1, 31, 32, edge, edge + 1, edge + 24, edge - 1, self.draw.randrange(size)))
            self._write(self.wal, self.wal.read_bytes()[:at], f"cut at {at} of {size}")

    def _pages(self) -> list[bytes]:
        content = self.path.read_bytes()
        return [content[at : at + PAGE] for at in range(0, len(content), PAGE)]

    def swap_pages(self) -> None:
        pages = self._pages()
        if len(pages) > 2:
            a, b = self.draw.sample(range(len(pages)), 2)
            pages[a], pages[b] = pages[b], pages[a]
            self._write(self.path, b"".join(pages), f"pages {a} and {b} swapped")

    def zero_page(self) -> None:
        self._replace(bytes(PAGE), "zeros")

    def fill_page(self) -> None:
        self._replace(self.draw.randbytes(PAGE), "noise")

    def _replace(self, page: bytes, what: str) -> None:
        pages = self._pages()
        if pages:
            at = self.draw.randrange(len(pages))
            pages[at] = page
            self._write(self.path, b"".join(pages), f"page {at} is {what}")

    def drop_wal(self) -> None:
        self.wal.unlink(missing_ok=True)
        self.notes.append(f"{self.wal.name}: removed")

    def change_header(self) -> None:
        content = bytearray(self.path.read_bytes())
        if len(content) >= 100:
            at, value = self.draw.randrange(100), self.draw.choice((0, 1, 2, 127, 128, 255))
            content[at] = value
            self._write(self.path, bytes(content), f"byte {at} of the header is {value}")


class Trial:
    """One damaged copy of `base`, drawn from `seed`. Large files are not checked as a whole when they are opened: half
    of the trials are taken for such."""

    def __init__(self, base: tuple[Path, list[str]], folder: Path, seed: int) -> None:
        self.path, self.ids = base
        self.seed = seed
        self.draw = random.Random(seed)
        self.folder = folder / f"trial{seed}"
        self.notes: list[str] = []

    def run(self, closely: bool = True) -> str:
        """Damage, look and run; give how it went. Fails if the file is answered otherwise than it may be. To look
        `closely` is to ask the command line too, and to wait for all executions: a second or more."""
        self.folder.mkdir()
        database, draw = self.folder / "damaged.db", self.draw
        for suffix in ("", "-wal"):
            shutil.copy(f"{self.path}{suffix}", f"{database}{suffix}")
        damage = Damage(database, draw)
        damage.some()
        self.notes = damage.notes
        checked = startup.CHECK_UP_TO_BYTES
        startup.CHECK_UP_TO_BYTES = draw.choice((0, checked))
        try:
            with watching(self.folder):
                return self._survives(database) if closely else self._glance(database)
        finally:
            startup.CHECK_UP_TO_BYTES = checked
            shutil.rmtree(self.folder)

    def _glance(self, database: Path) -> str:
        with contextlib.suppress(PerdureError):
            asyncio.run(_read(database))
        try:
            return asyncio.run(asyncio.wait_for(_run_one(database), CLOSING_S + PATIENCE_S))
        except PerdureError as error:
            return f"refused: {type(error).__name__}"

    def _survives(self, database: Path) -> str:
        draw = self.draw
        command_line.look(database, draw.sample(self.ids, 2), terminal=draw.random() < 0.5)
        try:
            tokens = self.path.with_name("base.db")
            how = asyncio.run(asyncio.wait_for(_run(database, self.ids, tokens), CLOSING_S + 2 * PATIENCE_S))
        except PerdureError as error:
            how = f"refused: {type(error).__name__}"
        command_line.look(database, draw.sample(self.ids, 1), terminal=draw.random() < 0.5)
        with contextlib.suppress(PerdureError):
            asyncio.run(_ask(database))
        return how


async def _run(database: Path, ids: list[str], tokens: Path) -> str:
    clock = Clock()
    async with Engine(database, WORKFLOWS, now=clock.now_us, grace_s=0.0, synchronous="normal") as engine:
        clock.ahead_us = 3 * DAY_S * 1_000_000
        engine.doorbell.ring("runner")
        found = await drive(engine, [*ids[:-5], *ids[-1:]], tokens, PATIENCE_S)
        for id, answer in found.items():
            assert not isinstance(answer, Exception) or _may_be_told(answer), f"{id}: {answer!r}"
        for task in [asyncio.ensure_future(engine.counts()), asyncio.ensure_future(engine.list())]:
            await asyncio.wait([task])
            assert task.exception() is None or _may_be_told(task.exception()), repr(task.exception())
    return "ran"


async def _read(database: Path) -> None:
    async with Client(database, synchronous="normal") as client:
        for info in await client.list():
            with contextlib.suppress(PerdureError):
                async for _ in client.execution(info.id).history(run=info.run):
                    pass


async def _run_one(database: Path) -> str:
    async with Engine(database, WORKFLOWS, grace_s=0.0, synchronous="normal") as engine:
        execution = await engine.start(quick, "new", id="new")
        with contextlib.suppress(TimeoutError):
            await execution.result(timeout_s=PATIENCE_S)
    return "ran"


async def _ask(database: Path) -> Any:
    async with Client(database, synchronous="normal") as client:
        return await client.start(quick, "asked", id="asked")


def _may_be_told(error: BaseException | None) -> bool:
    return isinstance(error, PerdureError | TimeoutError | Refused | ConnectionError)
