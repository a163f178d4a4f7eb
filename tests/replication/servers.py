"""S3 servers for tests, on loopback and ports chosen free.

`moto` honours conditional writes; `rclone serve s3` keeps objects as files and checks signatures, and ignores them.
Run as a script this file is the moto server: moto checks a condition and writes in two steps, so here requests go one
at a time.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import S3Store

KEY, SECRET = "test-key", "test-secret"
"""What the servers accept; `conftest.py` puts them into the environment."""


@dataclass(frozen=True)
class S3Server:
    endpoint: str
    process: subprocess.Popen[str]
    folder: Path | None = None
    """Where rclone keeps the buckets."""

    def url(self, bucket: str, prefix: str = "") -> str:
        """Make a bucket if it is not there; give the URL of a prefix in it."""
        # Not a folder made behind its back: rclone remembers what was there, and hangs when told not to.
        options = {"endpoint": self.endpoint, "region": "us-east-1", "access_key_id": KEY, "secret_access_key": SECRET}
        store = S3Store(bucket, **options, client_options={"allow_http": True})
        request = urllib.request.Request(obstore.sign(store, "PUT", "", timedelta(minutes=1)), method="PUT")
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()
        return f"s3://{bucket}/{prefix}?endpoint={self.endpoint}&region=us-east-1"


def tool(name: str) -> str:
    """Find a program beside this Python or on the PATH. Without it the test fails in CI, and is skipped elsewhere."""
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    return found or missing(name)


def missing(name: str) -> Any:
    reason = f"{name} is not installed: make setup"
    pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)


@contextlib.contextmanager
def moto_server() -> Iterator[S3Server]:
    """An S3 in memory that honours conditional writes. It ends with the process that started it."""
    try:
        import moto.server  # noqa: F401 - whether it can be imported, before a process fails to
    except ImportError:
        missing("moto[server]")
    command = [sys.executable, __file__]
    with _running(command, r"(http://127\.0\.0\.1:\d+)", stdin=subprocess.PIPE) as (process, endpoint):
        yield S3Server(endpoint, process)


@contextlib.contextmanager
def rclone_server(folder: Path) -> Iterator[S3Server]:
    """An S3 on a folder that checks signatures and ignores conditions."""
    command = [tool("rclone"), "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull, str(folder)]
    environment = {**os.environ, "RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'}
    with _running(command, r"\[(http://127\.0\.0\.1:\d+)/?\]", env=environment) as (process, endpoint):
        yield S3Server(endpoint, process, folder)


@contextlib.contextmanager
def scripted_server(answer: Callable[[str, str, Mapping[str, str]], tuple[int, str]]) -> Iterator[str]:
    """The endpoint of a server that answers as `answer(method, path, headers)` says: status and body."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, body = answer(self.command, self.path, self.headers)
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.send_header("ETag", '"scripted"')
            self.end_headers()
            self.wfile.write(body.encode())

        do_GET = do_PUT = do_DELETE = do_HEAD = do_POST = do

        def log_message(self, *arguments: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def black_hole() -> Iterator[str]:
    """The endpoint of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@contextlib.contextmanager
def _running(command: list[str], pattern: str, **options: Any) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server; give its process and the address that it prints."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    assert process.stdout is not None
    try:
        said = ""
        for line in process.stdout:
            said += line
            if found := re.search(pattern, line):
                break
        else:
            pytest.fail(f"{command[0]} did not start: {said}")
        threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
        yield process, found[1]
    finally:
        process.kill()
        process.wait()
        if process.stdin is not None:
            process.stdin.close()


def _drain(output: Any) -> None:
    with contextlib.suppress(ValueError, OSError):
        for _ in output:
            pass


def _serve_moto() -> None:
    """Be the moto server until standard input ends."""
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import WSGIRequestHandler, make_server

    application = DomainDispatcherApplication(create_backend_app)
    turn = threading.Lock()

    def one_at_a_time(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        # All of the request is read first: a client that stops in the middle must not stop the others.
        environ["wsgi.input"] = io.BytesIO(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)))
        with turn:
            return list(application(environ, start_response))

    class Quiet(WSGIRequestHandler):
        protocol_version = "HTTP/1.1"

        def log(self, *arguments: Any) -> None: ...

    server = make_server("127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=Quiet)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    _serve_moto()
