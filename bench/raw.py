"""R: how many one-row INSERT commits per second SQLite makes in a folder, with nothing of perdure involved.

It is the yardstick of the other figures: what the disk, the file system and SQLite give on this machine with the
settings that perdure uses (WAL, `synchronous=FULL`), each commit being on disk before the next one starts.

The first thousand commits of a new database are slower, by almost half on ext4: until the first checkpoint each one
also makes the WAL file longer. They do not count, neither here nor in the jobs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

import apsw

# About the size of one small event.
BODY = '{"kind":"activity_completed","name":"noop","result":1234567890,"attempt":1,"at":"2026-01-01T00:00:00Z"}'
WARM_UP_COMMITS = 1_500


def commits_per_s(folder: Path, seconds: float) -> float:
    """Insert rows into a new database in `folder`, one commit each, for at least `seconds`; return commits/s."""
    with tempfile.TemporaryDirectory(prefix="raw-", dir=folder) as fresh:
        connection = apsw.Connection(str(Path(fresh) / "raw.db"))
        try:
            connection.pragma("journal_mode", "wal")
            connection.pragma("synchronous", "full")
            connection.execute("CREATE TABLE event (id INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT")
            _check(connection)
            for _ in range(WARM_UP_COMMITS):
                _insert(connection)
            return _rate(connection, seconds)
        finally:
            connection.close()


def _check(connection: apsw.Connection) -> None:
    settings = connection.pragma("journal_mode"), connection.pragma("synchronous")
    if settings != ("wal", 2):
        raise RuntimeError(f"SQLite did not take WAL and synchronous=FULL here: {settings}")


def _insert(connection: apsw.Connection) -> None:
    connection.execute("INSERT INTO event (body) VALUES (?)", (BODY,))


def _rate(connection: apsw.Connection, seconds: float) -> float:
    commits = 0
    started = now = time.perf_counter()
    while now - started < seconds:
        _insert(connection)
        commits += 1
        now = time.perf_counter()
    return commits / (now - started)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.raw", description=__doc__)
    parser.add_argument("--dir", type=Path, default=Path(), help="where the database is made (default: here)")
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    rounds = [commits_per_s(options.dir, options.seconds) for _ in range(options.rounds)]
    print(json.dumps({"values": {"": statistics.median(rounds)}}))


if __name__ == "__main__":
    main()
