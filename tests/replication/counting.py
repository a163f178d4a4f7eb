"""A server between us and a bucket that counts requests, and can be told to refuse them."""

from __future__ import annotations

import contextlib
import http.client
import threading
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


class Counting:
    """`counts` is by method; a listing counts as LIST. While it is `down` it answers 503, and counts nothing."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint
        self.counts: Counter[str] = Counter()
        self.keys: Counter[str] = Counter()
        self.down = False


@contextlib.contextmanager
def counting_server(behind: str) -> Iterator[Counting]:
    """Forward to the server at `behind`, which must not check signatures."""
    place = urlsplit(behind).netloc

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if counting.down:
                self._answer(503, {}, b"")
                return
            parts = urlsplit(self.path)
            kind = "LIST" if self.command == "GET" and "list-type" in parts.query else self.command
            counting.counts[kind] += 1
            counting.keys[f"{kind} {parts.path}"] += 1
            connection = http.client.HTTPConnection(place, timeout=60)
            try:
                connection.request(self.command, self.path, body, dict(self.headers.items()))
                answer = connection.getresponse()
                self._answer(answer.status, dict(answer.getheaders()), answer.read())
            finally:
                connection.close()

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = do

        def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            kept = {name: value for name, value in headers.items() if name.lower() not in _OURS}
            length = headers.get("Content-Length", str(len(body))) if self.command == "HEAD" else str(len(body))
            for name, value in (kept | {"Content-Length": length}).items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    counting = Counting(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield counting
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


_OURS = ("content-length", "connection", "transfer-encoding", "date", "server")
