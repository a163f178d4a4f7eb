"""Litestream's control socket: HTTP over a unix socket.

`sync` is asked without `wait` and `timeout`: with them Litestream can drop its read lock, and then lose pages without a
word. Every call has a timeout of its own: with the bucket away an answer can take minutes.
"""

from __future__ import annotations

import http.client
import socket
from pathlib import Path
from typing import Any

import msgspec

from perdure.errors import PerdureError

TIMEOUT_S = 5.0


class ControlError(PerdureError):
    """Litestream did not answer, or not as expected."""

    hint = "it is restarted if it has died; look at the log for what it says"


class Positions(msgspec.Struct, frozen=True):
    """Where one database is, in Litestream's own transaction numbers: what it has taken up, what is in the bucket."""

    txid: int
    replicated_txid: int


class Control:
    """Asks a running Litestream. Blocking: call it on a thread of its own."""

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        self.path = path
        self.timeout_s = timeout_s

    def sync(self, database: Path) -> Positions:
        """Have it take up everything that is committed by now; give where it is. Raises `ControlError`."""
        answer = self._ask("POST", "/sync", {"path": str(database)})
        try:
            return msgspec.convert(answer, Positions)
        except msgspec.ValidationError as error:
            raise ControlError(f"litestream answered /sync with {answer}: {error}") from error

    def databases(self) -> dict[str, str]:
        """Give the databases that it replicates, by path, with what it calls their status."""
        found = self._ask("GET", "/list", None).get("databases") or []
        return {entry["path"]: entry.get("status", "") for entry in found}

    def register(self, database: Path, replica_url: str) -> None:
        """Have it replicate one more database."""
        self._ask("POST", "/register", {"path": str(database), "replica_url": replica_url})

    def unregister(self, database: Path, timeout_s: float = 30.0) -> None:
        """Have it let go of a database, after a last upload. Raises `ControlError` when that did not succeed: then too
        it has let go of it, unless it did not answer."""
        patient = Control(self.path, timeout_s + self.timeout_s)
        patient._ask("POST", "/unregister", {"path": str(database), "timeout": max(round(timeout_s), 1)})

    def _ask(self, method: str, path: str, body: dict[str, Any] | None) -> dict[str, Any]:
        connection = _Connection(self.path, self.timeout_s)
        try:
            connection.request(method, path, None if body is None else msgspec.json.encode(body))
            answer = connection.getresponse()
            text = answer.read()
            found = msgspec.json.decode(text) if text else {}
        except (OSError, http.client.HTTPException, msgspec.DecodeError) as error:
            raise ControlError(f"litestream did not answer {path}: {str(error) or type(error).__name__}") from error
        finally:
            connection.close()
        if answer.status != http.HTTPStatus.OK or not isinstance(found, dict):
            raise ControlError(f"litestream answered {path} with {answer.status}: {found}")
        return found


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("litestream", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
