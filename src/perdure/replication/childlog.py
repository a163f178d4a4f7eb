"""What Litestream says, line by line: passed on to our log, and remembered as far as it matters.

The child inherits both ends of the pipe. When we die it has a last upload to do, and says so: into a pipe that nobody
could read it would die of that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
from typing import IO

logger = logging.getLogger("perdure.replication")

LAST_WORDS_S = 5.0
"""How long to wait for the end of the log of one that has ended."""
LEFT_BEHIND = ("failed to close database", "shutdown sync skipped")
"""What it says when it ends, with exit code 0, before everything is in the bucket."""
NONE_YET = "no databases specified in configuration"
"""What it calls an error, and is meant so where databases come later."""
_LEVELS = {"ERROR": logging.ERROR, "WARN": logging.WARNING, "INFO": logging.DEBUG}


class ChildLog:
    """The log of one child: give it `ends`, then `start` reading."""

    def __init__(self) -> None:
        self.ends = os.pipe()
        self.said: str | None = None
        """Its last error."""
        self.left_behind = False
        self._reading: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def writing_end(self) -> int:
        return self.ends[1]

    def start(self) -> None:
        """Read from now on. The writing end is the child's alone then."""
        os.close(self.writing_end)
        reading = os.fdopen(self.ends[0], "rb", buffering=0)
        self._reading = asyncio.create_task(self._read(reading), name="perdure-litestream-log")
        self._reading.add_done_callback(lambda task: reading.close())

    def close(self) -> None:
        """Give up: there is no child, or nobody wants to know. Twice does no harm."""
        if self._reading is not None:
            self._reading.cancel()
        elif not self._closed:
            for fd in self.ends:
                os.close(fd)
        self._closed = True

    async def finish(self) -> None:
        """Wait for its last words."""
        if self._reading is not None:
            await asyncio.wait([self._reading], timeout=LAST_WORDS_S)
            self._reading.cancel()

    async def _read(self, pipe: IO[bytes]) -> None:
        reader = asyncio.StreamReader()
        loop = asyncio.get_running_loop()
        transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
        try:
            while line := await _line(reader):
                with contextlib.suppress(ValueError, AttributeError):
                    self._note(json.loads(line))
        finally:
            transport.close()

    def _note(self, entry: dict[str, object]) -> None:
        level, message = entry.get("level"), f"{entry.get('msg')} {entry.get('error', '')}".strip()
        if message == NONE_YET:
            return
        if level == "ERROR":
            self.said = message
        self.left_behind |= message.startswith(LEFT_BEHIND)
        logger.log(_LEVELS.get(str(level), logging.DEBUG), "litestream: %s", message)


async def _line(reader: asyncio.StreamReader) -> bytes:
    """Read a line, without those that are too long: left where they are they would fill the pipe and stop the child."""
    while True:
        try:
            return await reader.readline()
        except ValueError:
            continue
