"""A process of the long run, as the one that samples sees it: it answers each line with a line."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench.soak.samples import sample_process

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_S = 180.0


class SoakFailed(Exception):
    """A process of the run died or does not answer. The message has the end of what it said."""


class Process:
    """See `open_process`."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    async def ask(self) -> dict[str, Any]:
        """Give what it says about itself, and what /proc says about it."""
        assert self.process.stdin is not None
        self.process.stdin.write(b"\n")
        found: dict[str, Any] = json.loads(await self.line())
        return {**found, **sample_process(self.process.pid)}

    async def end(self) -> str:
        """Have it end in order; give the rest of what it says. Raises `SoakFailed` for another exit status than 0."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            async with asyncio.timeout(PATIENCE_S):
                said, _ = await self.process.communicate()
        except TimeoutError:
            raise self._failed("does not end") from None
        if self.process.returncode:
            raise self._failed("failed")
        return said.decode()

    async def line(self) -> str:
        assert self.process.stdout is not None
        try:
            async with asyncio.timeout(PATIENCE_S):
                line = await self.process.stdout.readline()
        except TimeoutError:
            raise self._failed("does not answer") from None
        if not line:
            await self.process.wait()
            raise self._failed("died")
        return line.decode()

    def _failed(self, what: str) -> SoakFailed:
        said = self.log.read_text(errors="replace")[-4_000:]
        return SoakFailed(f"the {self.name} {what} (exit status {self.process.returncode}):\n{said}")


@asynccontextmanager
async def open_process(name: str, log: Path, arguments: Sequence[str]) -> AsyncIterator[Process]:
    """Start a process of ours and wait until it is ready; it is killed when the block is left before it has ended."""
    with log.open("ab") as file:
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, *arguments, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=file
        )
    opened = Process(name, process, log)
    try:
        await opened.line()
        yield opened
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
