"""A mixed load that takes room: what an engine runs, and what people ask of it who try again when the disk is full.

`Book` is their ledger: what they were told, kept outside of the database. Activities note outside that they ran.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from perdure import Client, Signal, Transaction, activity, workflow
from perdure.errors import ExecutionNotFound, StoreFull
from perdure.types import Status

T = TypeVar("T")
BYTES = 30_000
PATIENCE_S = 60.0
word = Signal("word", str)


@activity
def make(ledger: str, name: str) -> str:
    """Note that it ran; give text that cannot be made smaller."""
    with open(ledger, "a", encoding="utf-8") as file:
        file.write(f"{name}\n")
    return random.Random(name).randbytes(BYTES).hex()


@activity(transactional=True)
def tally(transaction: Transaction, name: str) -> int:
    transaction.execute("CREATE TABLE IF NOT EXISTS tally (name TEXT)")
    transaction.execute("INSERT INTO tally VALUES (?)", (name,))
    return int(transaction.execute("SELECT count(*) FROM tally WHERE name = ?", (name,))[0][0])


@workflow
async def grow(ledger: str, name: str, steps: int) -> int:
    return sum([len(await make.submit(ledger, f"{name}.{n}")) for n in range(steps)])


@workflow
async def family(ledger: str, name: str) -> int:
    return sum(await asyncio.gather(*(grow(ledger, f"{name}.{n}", 2) for n in range(3))))


@workflow
async def asked(ledger: str, name: str) -> list[Any]:
    made = await make.submit(ledger, f"{name}.0")
    said = [await word.receive() for _ in range(2)]
    await asyncio.sleep(0.05)
    return [len(made), *said, await tally.submit(name)]


@workflow
async def note(text: str) -> int:
    return len(text)


class Book:
    """What people were told, and what they ask for. `client` speaks for all of them."""

    def __init__(self, client: Client, ledger: Path) -> None:
        self.client = client
        self.ledger = ledger
        ledger.touch()
        self.started: set[str] = set()
        self.results: dict[str, Any] = {}
        self.refused: set[str] = set()
        """Starts that nobody tried again."""
        self.full = 0
        """How often somebody was told that there is no room."""

    async def fill(self) -> bool:
        """Ask for something large; give whether there was no room for it."""
        id = f"note-{len(self.started) + len(self.refused)}"
        try:
            await self.client.start(note, random.Random(id).randbytes(512 * 1024).hex(), id=id)
        except StoreFull:
            self.refused.add(id)
            return True
        self.started.add(id)
        return False

    async def ask(self, who: int, times: int) -> None:
        """Ask for one thing after the other, and wait for each."""
        for n in range(times):
            name, ledger = f"{who}-{n}", str(self.ledger)
            await self._run(f"grow-{name}", 3 * 2 * BYTES, grow, ledger, f"grow-{name}", 3)
            await self._run(f"family-{name}", 6 * 2 * BYTES, family, ledger, f"family-{name}")
            await self._run(f"asked-{name}", [2 * BYTES, "a", "b", 1], asked, ledger, f"asked-{name}")

    async def _run(self, id: str, expected: Any, code: Any, *arguments: Any) -> None:
        execution = await self._insist(lambda: self.client.start(code, *arguments, id=id))
        self.started.add(id)
        if code is asked:
            for text in "ab":
                await self._insist(lambda text=text: execution.signal(word, text))
        result = await self._insist(lambda: execution.result(timeout_s=PATIENCE_S))
        assert result == expected, f"{id}: {result}"
        self.results[id] = result

    async def _insist(self, act: Callable[[], Awaitable[T]]) -> T:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return await act()
            except StoreFull:
                self.full += 1
                assert time.monotonic() < deadline, "still no room"
                await asyncio.sleep(0.05)

    async def compare(self) -> None:
        """See that what people were told is in the file, and what was refused is not."""
        for id in self.started:
            info = await self.client.describe(id)
            assert id not in self.results or info.status is Status.COMPLETED, info
        for id in self.refused:
            try:
                await self.client.describe(id)
            except ExecutionNotFound:
                continue
            raise AssertionError(f"{id} was refused, and is there")

    def ran(self) -> list[str]:
        """Give what the activities noted."""
        return self.ledger.read_text().splitlines()
