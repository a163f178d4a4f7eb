"""The play: start the job, kill it, start it again, and compare what came out with a plain loop.

    worker ──▶ half of the files done ──▶ kill -9 ──▶ look into the file ──▶ worker again ──▶ report ──▶ compare

The parent process, this one, only looks: at the ledger for progress, at the database as any client can.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path

import msgspec

from perdure.client import Client
from perdure.demo.display import Display
from perdure.demo.evidence import Done, completed_paths
from perdure.demo.index import EXECUTION_ID, STARTED, Job, index_library
from perdure.demo.ledger import Ledger
from perdure.demo.source import Report, combine, examine, packages_in, standard_library
from perdure.errors import PerdureError

LOOK_EVERY_S = 0.05
KILL_AT = 0.5
"""The part of the files after which the worker is killed."""


def main(
    folder: Path | None = None,
    *,
    with_tests: bool = False,
    library: Path | None = None,
    display: Display | None = None,
) -> int:
    """Index the standard library durably, with a `kill -9` in the middle; give 0 only if nothing was lost or repeated.

    The database, the ledger and the reports go to `folder`, by default a new temporary one. `with_tests` indexes the
    library's tests, too, which takes about three times as long; `library` is another folder to index.
    """
    display = display or Display()
    folder = (folder or Path(tempfile.mkdtemp(prefix="perdure-demo-"))).absolute()
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "demo.db").exists():
        display.line(f"{folder / 'demo.db'} is there already: name another folder, or remove it.")
        return 2
    act = Act(folder, (library or standard_library()).absolute(), with_tests, display)
    if act.total < 2:
        display.line(f"there are no Python files in {act.library} to index: name another folder with --library.")
        return 2
    return 0 if asyncio.run(act.play()) else 1


class Act:
    """See the module."""

    def __init__(self, folder: Path, library: Path, with_tests: bool, display: Display) -> None:
        self.folder = folder
        self.library = library
        self.display = display
        self.database = folder / "demo.db"
        self.ledger = Ledger(folder / "ledger.txt")
        self.job = Job(str(library), str(self.ledger.path), with_tests)
        self.packages = packages_in(library, with_tests)
        self.total = sum(len(paths) for paths in self.packages.values())

    async def play(self) -> bool:
        """Go through all of it; say whether everything matched."""
        self.display.line(f"Index {self.library} (Python {platform.python_version()}):")
        self.display.line(
            f"{len(self.packages):,} child workflows, one per package; {self.total:,} activities, one per file."
        )
        self.display.scene("A worker starts, and is killed with kill -9 in the middle")
        if not await self._run_and_kill():
            return False
        async with Client(self.database) as client:
            self.display.scene("What the file says now")
            before = await completed_paths(client, EXECUTION_ID)
            effects = self.ledger.look()
            self.display.fact(f"{len(before.paths):,} steps are in the history, each with its result")
            self.display.fact(f"{effects:,} files had been examined, says the ledger outside the database")
            self.display.scene("The same command again")
            report = await self._run_to_end(client)
            after = await completed_paths(client, EXECUTION_ID)
        self.display.scene("The same in a plain loop, on one core")
        plain = self._plain_loop()
        self.display.scene("Does it all add up?")
        matched = self._check(before, after) & self._compare(report, plain)
        self._invite()
        return matched

    # --- the worker -------------------------------------------------------------------------------------------------

    async def _start(self) -> asyncio.subprocess.Process:
        """Start a worker; returns once it has said that the job is on the disk."""
        job = msgspec.json.encode(self.job).decode()
        argv = [sys.executable, "-m", "perdure.demo.worker", str(self.database), job]
        # multiprocessing would report the semaphores that a killed process could not give back
        env = os.environ | {"PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker"}
        worker = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE, env=env)
        assert worker.stdout is not None
        line = await worker.stdout.readline()
        if line.decode().strip() != STARTED:
            raise PerdureError(f"the worker did not start (exit status {await worker.wait()}): {shlex.join(argv)}")
        return worker

    async def _run_and_kill(self) -> bool:
        worker = await self._start()
        self.display.fact(f"process {worker.pid} has started execution {EXECUTION_ID!r}")
        try:
            with self.display.progress(self.total) as tell:
                while self.ledger.look() < self.total * KILL_AT and worker.returncode is None:
                    tell(self.ledger.lines, "")
                    await asyncio.sleep(LOOK_EVERY_S)
                tell(self.ledger.lines, "")
        finally:
            if worker.returncode is None:
                os.kill(worker.pid, signal.SIGKILL)
        status = await worker.wait()
        self.display.fact(f"kill -9 {worker.pid}: exit status {status}")
        if status != -signal.SIGKILL:
            self.display.verdict("the worker ended before it was killed: is the input too small?", ok=False)
        return status == -signal.SIGKILL

    async def _run_to_end(self, client: Client) -> Report:
        began, known = time.monotonic(), self.ledger.look()
        worker = await self._start()
        execution = client.execution(EXECUTION_ID, index_library)
        result = asyncio.create_task(execution.result())
        resumed_s = None
        try:
            with self.display.progress(self.total, known) as tell:
                while not result.done() and worker.returncode is None:
                    if self.ledger.look() > known and resumed_s is None:
                        resumed_s = time.monotonic() - began
                    state = await execution.state()
                    # a file examined twice is in the ledger twice, hence the limit
                    tell(min(self.ledger.lines, self.total), f"{state['done']} of {state['packages']} packages")
                    await asyncio.wait([result], timeout=LOOK_EVERY_S)
                if result.done():
                    tell(self.total, "")
            if worker.returncode:
                raise PerdureError(f"the worker ended with exit status {worker.returncode} before the job was done")
            report = await result
        finally:
            if worker.returncode is None and not result.done():
                worker.kill()
            result.cancel()
            await worker.wait()
        if resumed_s is not None:
            self.display.fact(f"the first new step was done {resumed_s:.1f} s after the command")
        return report

    # --- the checks -------------------------------------------------------------------------------------------------

    def _check(self, before: Done, after: Done) -> bool:
        """Hold the history against the ledger."""
        counts = self.ledger.counts()
        repeated = [path for path in before.paths if counts[path] != 1]
        self.display.verdict(
            f"{len(before.paths):,} steps were done before the kill; {len(repeated):,} of them ran again", not repeated
        )
        every = {path for paths in self.packages.values() for path in paths}
        complete = after.paths == every and after.events == len(every) and counts.keys() == every
        self.display.verdict(
            f"{after.events:,} of {self.total:,} files have exactly one result in the history", complete
        )
        again = counts.total() - len(counts)
        self.display.fact(f"   {again} in flight at the kill, not recorded yet, ran a second time: at-least-once")
        return not repeated and complete

    def _compare(self, report: Report, plain: Report) -> bool:
        """Write both reports to files, and hold one against the other."""
        durable, expected = (msgspec.json.format(msgspec.json.encode(each), indent=1) for each in (report, plain))
        (self.folder / "report.json").write_bytes(durable)
        (self.folder / "plain.json").write_bytes(expected)
        same = durable == expected
        verdict = "the same as" if same else "NOT the same as"
        sums = f"{report.lines:,} lines, {report.functions:,} functions, {report.classes:,} classes"
        self.display.verdict(f"the report is {verdict} that of the plain loop: {sums}", same)
        return same

    def _plain_loop(self) -> Report:
        packages = []
        with self.display.progress(self.total) as tell:
            done = 0
            for name, paths in self.packages.items():
                packages.append(combine(name, [examine(self.library, path) for path in paths]))
                done += len(paths)
                tell(done, "")
        return Report(packages)

    def _invite(self) -> None:
        database = shlex.quote(str(self.database))
        package = f"{EXECUTION_ID}/{'json' if 'json' in self.packages else next(iter(self.packages))}"
        select = f"select seq, kind, ref, name, at from history where execution_id = '{package}'"
        self.display.scene("Look at it yourself")
        self.display.fact(f"perdure list --db {database} --status completed")
        self.display.fact(f"perdure show {package} --db {database}")
        self.display.fact(f"perdure history {package} --db {database}")
        self.display.fact(f'sqlite3 {database} "{select}"')
        self.display.fact(
            f"diff {shlex.quote(str(self.folder / 'report.json'))} {shlex.quote(str(self.folder / 'plain.json'))}"
        )
