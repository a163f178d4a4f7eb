"""S3 servers on loopback: rclone for data, which is quick, and moto for leases, which rclone has not got.

Both keep everything in memory: a bucket is not on the disk that commits wait for. Keys of theirs are in the environment
while they run. What is not installed is `NotHere`.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import IO

KEY, SECRET = "bench-key", "bench-secret"
BUCKET = "bench"


class NotHere(Exception):
    """Something that it takes is not installed."""


@contextlib.contextmanager
def rclone() -> Iterator[str]:
    """Run `rclone serve s3`; give the URL of a prefix in its bucket."""
    command = [_program("rclone"), "serve", "s3", "--addr", "127.0.0.1:0", "--config", os.devnull, ":memory:"]
    with _bucket(command, {"RCLONE_AUTH_KEY": f'"{KEY},{SECRET}"'}) as url:
        yield url


@contextlib.contextmanager
def moto() -> Iterator[str]:
    """Run moto's server; give the URL of a prefix in its bucket."""
    if not Path(_program("moto_server")).is_file():
        raise NotHere("moto is not installed: make setup")
    with _bucket([_program("moto_server"), "-H", "127.0.0.1", "-p", "0"], {}) as url:
        yield url


def _program(name: str) -> str:
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.is_file() else shutil.which(name)
    if found is None:
        raise NotHere(f"{name} is not installed: make setup")
    return found


@contextlib.contextmanager
def _bucket(command: list[str], environment: dict[str, str]) -> Iterator[str]:
    _program("litestream")
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "NO_PROXY": "127.0.0.1"}
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | environment
    )
    assert process.stdout is not None
    try:
        found = None
        for line in process.stdout:
            if found := re.search(r"http://127\.0\.0\.1:\d+", line):
                break
        if found is None:
            raise RuntimeError(f"{command[0]} did not start")
        threading.Thread(target=_drain, args=(process.stdout,), daemon=True).start()
        _make(found[0])
        yield f"s3://{BUCKET}/bench?endpoint={found[0]}&region=us-east-1"
    finally:
        process.kill()
        process.wait()


def _make(endpoint: str) -> None:
    """Make the bucket, as its owner would: perdure makes none."""
    try:
        import obstore
        from obstore.store import S3Store
    except ImportError:
        raise NotHere("obstore is not installed: make setup") from None
    store = S3Store(
        BUCKET, endpoint=endpoint, region="us-east-1", access_key_id=KEY, secret_access_key=SECRET,
        client_options={"allow_http": True},
    )  # fmt: skip
    request = urllib.request.Request(obstore.sign(store, "PUT", "", timedelta(minutes=1)), method="PUT")
    urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=30).close()


def _drain(output: IO[str]) -> None:
    with contextlib.suppress(ValueError, OSError):
        for _ in output:
            pass
