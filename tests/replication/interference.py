"""A proxy between a client and an S3 server that can be told to do harm, at any moment, to every connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Literal
from urllib.parse import urlsplit

Trouble = Literal["none", "slow", "drop", "reset", "500", "503", "403", "away", "no writes"]
SLOW_S = 0.3


class Interference:
    """See the module. `trouble` is what it does now; `away` refuses connections, as a machine that is down does."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self.upstream = (parts.hostname, parts.port)
        self.trouble: Trouble = "none"
        self.requests = 0
        self.loop = asyncio.new_event_loop()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.server: asyncio.Server | None = None
        self.connections: set[asyncio.Task[None]] = set()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()
        self._run(self._listen())

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def make(self, trouble: Trouble) -> None:
        """Do this harm from now on, also to connections that are open."""
        before, self.trouble = self.trouble, trouble
        if trouble == "away":
            self._run(self._go_away())
        elif before == "away":
            self.listener = socket.create_server(("127.0.0.1", self.port))
            self._run(self._listen())

    def close(self) -> None:
        self._run(self._go_away())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def _run(self, call: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(call, self.loop).result(10)

    async def _listen(self) -> None:
        self.server = await asyncio.start_server(self._serve, sock=self.listener)

    async def _go_away(self) -> None:
        if self.server is not None:
            self.server.close()
            self.server = None
        for task in list(self.connections):
            task.cancel()
        await asyncio.gather(*self.connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.connections.add(task)
        try:
            await self._pass_on(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.connections.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        upstream: asyncio.StreamWriter | None = None
        answering: asyncio.Task[None] | None = None
        try:
            while data := await reader.read(65_536):
                self.requests += 1
                trouble = self.trouble
                if trouble == "no writes":
                    trouble = "403" if data.startswith((b"PUT", b"POST", b"DELETE")) else "none"
                if trouble == "slow":
                    await asyncio.sleep(SLOW_S)
                elif trouble == "drop":
                    continue
                elif trouble == "reset":
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                elif trouble in ("500", "503", "403"):
                    await self._refuse(trouble, reader, writer)
                    return
                if upstream is None:
                    answers, upstream = await asyncio.open_connection(*self.upstream)
                    answering = asyncio.create_task(self._answer(answers, writer))
                upstream.write(data)
                await upstream.drain()
        finally:
            if answering is not None:
                answering.cancel()
            if upstream is not None:
                upstream.close()

    async def _answer(self, answers: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await answers.read(65_536):
                writer.write(data)
                await writer.drain()
        writer.close()

    async def _refuse(self, status: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer, whatever was asked, and read the rest of it: closed too early, the answer would be lost."""
        writer.write(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())
        await writer.drain()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                while await reader.read(65_536):
                    pass


@contextmanager
def interference(upstream: str) -> Iterator[Interference]:
    made = Interference(upstream)
    try:
        yield made
    finally:
        made.close()
