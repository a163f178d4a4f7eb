"""The control socket, asked of a server that answers whatever a broken Litestream might."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from perdure.replication.control import Control, ControlError, Positions

DB = Path("/data/shop.db")


@contextlib.contextmanager
def answering(folder: Path, answer: bytes) -> Iterator[tuple[Path, list[bytes]]]:
    """A socket on which every request gets the same answer; give its path, and what was asked."""
    path, asked = folder / "s", []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = listener.accept()
                    with connection:
                        asked.append(_whole(connection))
                        connection.sendall(answer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield path, asked
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _whole(connection: socket.socket) -> bytes:
    """Read one request: its head, and as much body as that announces, which may come in a packet of its own."""
    data = b""
    while True:
        data += (packet := connection.recv(65_536))
        head, end, body = data.partition(b"\r\n\r\n")
        announced = re.search(rb"(?i)content-length: (\d+)", head)
        if not packet or (end and len(body) >= int(announced[1] if announced else 0)):
            return data


def http(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_a_sync_never_asks_to_wait(tmp_path: Path) -> None:
    """Trap 2: with `wait` or `timeout` Litestream may drop its read lock, and lose pages without a restart."""
    with answering(tmp_path, http('{"status":"synced_local","txid":7,"replicated_txid":5,"path":"x"}')) as (
        path,
        asked,
    ):
        assert Control(path).sync(DB) == Positions(7, 5)
    head, _, body = asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /sync HTTP/1.1")
    assert body == b'{"path":"/data/shop.db"}'


def test_a_list_gives_each_database_with_its_status(tmp_path: Path) -> None:
    body = '{"databases":[{"path":"/a","status":"replicating"},{"path":"/b"}]}'
    with answering(tmp_path, http(body)) as (path, _):
        assert Control(path).databases() == {"/a": "replicating", "/b": ""}
    (tmp_path / "s").unlink()
    with answering(tmp_path, http('{"databases":null}')) as (path, _):
        assert Control(path).databases() == {}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"garbage\r\n\r\n",
        http("not json"),
        http("[1]"),
        http("{}"),
        http('{"txid":"x","replicated_txid":1}'),
        http('{"error":"database not open"}', "409 Conflict"),
        http('{"error":"no position"}', "500 Internal Server Error"),
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    ],
)
def test_anything_else_is_an_error_of_ours(tmp_path: Path, answer: bytes) -> None:
    with answering(tmp_path, answer) as (path, _), pytest.raises(ControlError, match="/sync"):
        Control(path, timeout_s=2.0).sync(DB)


def test_an_answer_that_does_not_come_is_not_waited_for(tmp_path: Path) -> None:
    """Trap 8: in an outage even a call without `wait` hangs, for longer than anyone would wait."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "s"))
        listener.listen()
        with pytest.raises(ControlError, match="timed out"):
            Control(tmp_path / "s", timeout_s=0.05).sync(DB)


def test_nobody_there(tmp_path: Path) -> None:
    with pytest.raises(ControlError):
        Control(tmp_path / "s").databases()
