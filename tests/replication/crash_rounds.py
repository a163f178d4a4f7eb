"""Kills machines under load, restores their database elsewhere, and looks for what is missing.

    PYTHONPATH=src:tests/replication python -m crash_rounds --rounds 100 --seed 7

One round: a machine runs, is killed (the worker, its Litestream, or both) at a random moment, and the database is
restored on another one, which is the next round's. The dead machine's disk is looked at too: what was restored must be
a prefix of it, and nothing may be missing that was said to be in the bucket.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import apsw
from servers import KEY, SECRET, S3Server, rclone_server
from streaming import alive

from perdure.replication.restore import NothingToRestore, Restored, restore
from perdure.replication.target import Target

WORKER = Path(__file__).with_name("rounds_worker.py")
KINDS = ("worker", "litestream", "both", "litestream hangs")
PER_DATABASE = 8
PATIENCE_S = 60.0
Event = tuple[object, ...]


@dataclass
class Figures:
    """What the rounds saw. `windows_ms` is how much of the newest history was lost in each, by commit instants."""

    rounds: int = 0
    kinds: Counter[str] = field(default_factory=Counter)
    events: int = 0
    promised: int = 0
    windows_ms: list[float] = field(default_factory=list)
    passed_over: int = 0
    found: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        windows = sorted(self.windows_ms) or [0.0]
        kinds = ", ".join(f"{count} x {kind}" for kind, count in sorted(self.kinds.items()))
        return (
            f"{self.rounds} rounds ({kinds}): {self.events:,} events compared, {self.promised:,} promises of being in "
            f"the bucket, {len(self.found)} violations; the newest history that was lost: median "
            f"{statistics.median(windows):.0f} ms, at most {windows[-1]:.0f} ms; epochs passed over: {self.passed_over}"
        )


class Machine:
    """A machine under load, and what it said."""

    def __init__(self, path: Path, url: str, name: str) -> None:
        self.path = path
        self.said: list[tuple[str, str]] = []
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER), str(path), url, name, str(path.with_name("log"))],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.reading = threading.Thread(target=self._read, daemon=True)
        self.reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            what, _, id = line.strip().partition(" ")
            self.said.append((what, id))

    def until_it_has_promised(self) -> None:
        wait_for(lambda: any(what == "R" for what, _ in self.said) or self.process.poll() is not None)
        assert self.process.poll() is None, self.path.with_name("log").read_text()

    @property
    def litestream(self) -> int | None:
        with suppress(OSError, ValueError, IndexError):
            return int(self.path.with_name(self.path.name + "-litestream-lock").read_text().split()[0])
        return None

    def end(self, kind: str, choose: random.Random) -> None:
        """Kill it, in this way; give back when nothing of it runs any more."""
        if kind.startswith("litestream"):
            with suppress(ProcessLookupError, TypeError):
                os.kill(self.litestream, signal.SIGKILL if kind == "litestream" else signal.SIGSTOP)  # type: ignore[arg-type]
            time.sleep(choose.uniform(0.0, 0.6))
        if kind == "both" and (child := self.litestream):
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        self.reading.join()
        child = self.litestream
        if kind != "worker" and child is not None:
            with suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        wait_for(lambda: not alive(child))


def wait_for(condition: object) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"not so in {PATIENCE_S:g} s"
        time.sleep(0.01)


class Rounds:
    """See the module. `folder` is for everything; that of a database with violations is kept."""

    def __init__(self, server: S3Server, folder: Path, seed: int) -> None:
        self.server = server
        self.folder = folder
        self.seed = seed
        self.figures = Figures()
        self.promised: dict[str, str] = {}
        self.choose = random.Random(seed)

    def run(self, rounds: int) -> Figures:
        for number in range(rounds):
            if number % PER_DATABASE == 0:
                home = self.folder / f"database{number // PER_DATABASE}"
                url = self.server.url(f"rounds-{self.seed}-{number // PER_DATABASE}", "shop")
                path: Path | None = None
                self.promised = {}
            path = asyncio.run(self.round(number, home, url, path))
            if self.figures.found:
                return self.figures
            if number % PER_DATABASE == PER_DATABASE - 1:
                shutil.rmtree(home)
        return self.figures

    async def round(self, number: int, home: Path, url: str, path: Path | None) -> Path:
        """Play one round on the machine that has `path`; give the path on the next."""
        if path is None:
            path = home / f"{number}" / "shop.db"
            path.parent.mkdir(parents=True)
        kind = self.choose.choice(KINDS)
        machine = Machine(path, url, f"{number}")
        if self.choose.random() < 0.85:
            await asyncio.to_thread(machine.until_it_has_promised)
        time.sleep(self.choose.uniform(0.0, 1.2))
        machine.end(kind, self.choose)
        for what, id in machine.said:
            if what in "RPD":
                self.promised[id] = "D" if "D" in (what, self.promised.get(id)) else what
        after = home / f"{number + 1}" / "shop.db"
        after.parent.mkdir(parents=True)
        self.figures.rounds += 1
        self.figures.kinds[kind] += 1
        try:
            done = await restore(Target.parse(url), after)
        except NothingToRestore:
            if self.promised:
                self.figures.found.append(f"round {number} ({kind}): nothing to restore")
            return after
        self.compare(f"round {number} ({kind}, seed {self.seed})", path, done, machine)
        return after

    def compare(self, where: str, before: Path, done: Restored, machine: Machine) -> None:
        """Look for what is missing or other than it was on the disk of the machine that was killed."""
        figures, wrong = self.figures, self.figures.found
        with opened(before) as disk, opened(done.path) as restored:
            there, were = events(restored), events(disk)
            ends = dict(restored.execute("SELECT id, status FROM perdure_execution"))
            here = {id for (id,) in disk.execute("SELECT id FROM perdure_execution")}
        wrong += [f"{where}: {key} is not what it was" for key, event in there.items() if were.get(key) != event][:5]
        newest = max((event[0] for event in there.values()), default=0)  # type: ignore[type-var]
        missing = [key for key, event in were.items() if key not in there]
        wrong += [f"{where}: {key} is missing, and later ones are there" for key in missing if were[key][0] < newest][
            :5
        ]  # type: ignore[operator]
        for id, what in self.promised.items():
            if id not in ends or (what == "D" and ends[id] != "completed"):
                wrong.append(f"{where}: {what} {id} was promised, and is {ends.get(id, 'not there')}")
        wrong += [f"{where}: {id} was acknowledged and is not on the disk" for _, id in machine.said if id not in here][
            :5
        ]
        figures.events += len(there)
        figures.promised += sum(what in "RPD" for what, _ in machine.said)
        last = max((event[0] for event in were.values()), default=0)  # type: ignore[type-var]
        figures.windows_ms.append((last - newest) / 1000)  # type: ignore[operator]
        figures.passed_over += len(done.passed_over)


@contextmanager
def opened(path: Path) -> Iterator[apsw.Connection]:
    with closing(apsw.Connection(str(path))) as connection:
        yield connection


def events(connection: apsw.Connection) -> dict[tuple[str, int], Event]:
    """Every event by execution and seq, its instant first."""
    rows = connection.execute(
        "SELECT x.id, e.seq, e.at, e.kind, e.ref, e.name, e.data FROM perdure_event e "
        "JOIN perdure_execution x ON x.num = e.execution"
    )
    return {(id, seq): tuple(rest) for id, seq, *rest in rows}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    os.environ |= {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "NO_PROXY": "127.0.0.1"}
    folder = Path(tempfile.mkdtemp(prefix="perdure-rounds-"))
    with rclone_server(folder / "bucket") as server:
        began = time.monotonic()
        rounds = Rounds(server, folder, options.seed)
        figures = rounds.run(options.rounds)
    print(f"{figures}; {time.monotonic() - began:.0f} s")
    print("\n".join(figures.found) or "nothing was wrong")
    if not figures.found:
        shutil.rmtree(folder)
    return 1 if figures.found else 0


if __name__ == "__main__":
    sys.exit(main())
