"""The file that all processes share: the real SQLite store, on connections of which every transaction is a scene.

        BEGIN            statements              COMMIT
    ──────┬──────────────────┬──────────────────────┬────────────────────────▶ the process hears of it
       may wait,          may fail           may wait, fail      may wait, die: written, and nobody knows
    fail, die before                            or die

While a process waits here, the others run. The write lock is SQLite's own; who would have to wait for it waits in
virtual time. Every change of a row is noted by SQLite's pre-update hook, and handed to the auditor after the commit;
events are noted by triggers, since that hook cannot read tables with computed columns.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import apsw

from perdure.codec.payload import Payloads
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.connection import BUSY_S, open_connection
from simulation.process import Process
from simulation.scheduler import Scheduler


class Change(NamedTuple):
    """One row before and after; None where there was or is none."""

    table: str
    before: tuple[Any, ...] | None
    after: tuple[Any, ...] | None


@dataclass
class Fate:
    """What will happen to one transaction. Waits are in seconds."""

    begin_s: float = 0.0
    commit_s: float = 0.0
    told_s: float = 0.0
    """Between the commit and the process hearing of it."""
    error: Exception | None = None
    at_statement: int = -1
    """The statement that raises `error`: 0 is BEGIN, -1 COMMIT."""
    rolls_back: bool = False
    """SQLite has rolled the transaction back when the error comes."""
    dies: str = ""
    """`begin`, `commit` or `told`: where the process is killed."""


class Disk:
    """See the module. `fate` draws what happens to a transaction; `committed` hears of every commit, in the hub."""

    def __init__(
        self,
        path: Path,
        scheduler: Scheduler,
        fate: Callable[[Process], Fate],
        committed: Callable[[SimulatedStore, list[Change]], None],
    ) -> None:
        self.path = path
        self.scheduler = scheduler
        self.fate = fate
        self.committed = committed
        self.writer: DiskConnection | None = None
        """Who has the write lock."""
        shutil.copyfile(template(path.parent.parent), path)

    def free(self, connection: DiskConnection) -> None:
        if self.writer is connection:
            self.writer = None


def template(folder: Path) -> Path:
    """Give an empty database, made once per folder: to make one takes longer than to copy it."""
    path = folder / "template.db"
    if not path.exists():
        SqliteStore(path).close()
        with apsw.Connection(str(path)) as connection:
            connection.execute("CREATE TABLE tally (call TEXT, key TEXT)")
    return path


class DiskConnection(apsw.Connection):
    """One connection of a process that may write."""

    process: Process
    disk: Disk
    store: SimulatedStore
    _fate = Fate()
    _statements = 0

    def attach(self, store: SimulatedStore) -> None:
        self.store, self.process, self.disk = store, store.process, store.disk
        self.noted: list[Change] = []
        self._mark = 0
        self.process.resources.append(self)
        self.preupdate_hook(self._changed)
        for when, version, function in (("INSERT", "NEW", self._event_came), ("DELETE", "OLD", self._event_went)):
            row = ", ".join(f"{version}.{name}" for name in "execution seq kind at ref name data blob".split())
            self.create_scalar_function(f"noted_{when}", function)
            super().execute(
                f"CREATE TEMP TRIGGER noted_{when} AFTER {when} ON perdure_event BEGIN SELECT noted_{when}({row}); END"
            )

    def _changed(self, update: apsw.PreUpdate) -> None:
        if update.table_name != "perdure_event":
            self.noted.append(Change(update.table_name, update.old, update.new))

    def _event_came(self, *row: Any) -> None:
        self.noted.append(Change("perdure_event", None, row))

    def _event_went(self, *row: Any) -> None:
        self.noted.append(Change("perdure_event", row, None))

    def taken_back(self) -> None:
        self.disk.free(self)
        self.close(True)

    # --- statements ---------------------------------------------------------------------------------------------------

    def execute(self, sql: str, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]  # passed on
        special = _SPECIAL.get(sql)
        if special is not None:
            return special(self)
        self._statement()
        return super().execute(sql, *arguments, **options)

    def executemany(self, sql: str, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]  # passed on
        self._statement()
        return super().executemany(sql, *arguments, **options)

    def _statement(self) -> None:
        self._statements += 1
        if self._statements == self._fate.at_statement and self.in_transaction:
            self._fail()

    def _fail(self) -> None:
        error = self._fate.error
        assert error is not None
        if self._fate.rolls_back:
            self._rollback()
        self._fate = Fate()
        raise error

    # --- transactions -------------------------------------------------------------------------------------------------

    def _begin(self) -> Any:
        fate = self._fate = self.disk.fate(self.process)
        self._statements = 0
        self._scene("begin", fate.begin_s)
        if fate.at_statement == 0 and fate.error is not None:
            raise fate.error
        waited = 0.0
        while self.disk.writer is not None:
            if waited > BUSY_S:
                raise apsw.BusyError("database is locked")
            self.disk.scheduler.wait(0.002)
            waited += 0.002
        result = super().execute("BEGIN IMMEDIATE")
        self.disk.writer = self
        self.noted, self._mark = [], 0
        return result

    def _commit(self) -> Any:
        fate = self._fate
        self._scene("commit", fate.commit_s)
        if fate.at_statement == -1 and fate.error is not None:
            self._fail()
        result = super().execute("COMMIT")
        self.disk.free(self)
        changes, self.noted = self.noted, []
        self._fate = Fate()
        self.disk.scheduler.call(lambda: self.disk.committed(self.store, changes))
        self._scene("told", fate.told_s, fate)
        return result

    def _rollback(self) -> Any:
        result = super().execute("ROLLBACK")
        self.disk.free(self)
        self.noted = []
        return result

    def _savepoint(self) -> Any:
        self._mark = len(self.noted)
        return super().execute("SAVEPOINT activity")

    def _undo(self) -> Any:
        del self.noted[self._mark :]
        return super().execute("ROLLBACK TO activity")

    def _scene(self, place: str, wait_s: float, fate: Fate | None = None) -> None:
        """Let others run, or die here."""
        if wait_s:
            self.disk.scheduler.wait(wait_s)
        if (fate or self._fate).dies == place:
            self.process.kill()
            self.disk.scheduler.wait(0)  # raises Killed


_SPECIAL: dict[str, Callable[[DiskConnection], Any]] = {
    "BEGIN IMMEDIATE": DiskConnection._begin,
    "COMMIT": DiskConnection._commit,
    "ROLLBACK": DiskConnection._rollback,
    "SAVEPOINT activity": DiskConnection._savepoint,
    "ROLLBACK TO activity": DiskConnection._undo,
}


class SimulatedStore(SqliteStore):
    """The real store, its writing connection on the disk of the simulation."""

    def __init__(self, process: Process, disk: Disk, payloads: Payloads, create: bool) -> None:
        self.process = process
        self.disk = disk
        super().__init__(disk.path, synchronous="normal", payloads=payloads, now=process.now_us, create=create)

    def _prepare(self) -> None:
        """The template is up to date."""

    def _connect(self, *, read_only: bool = False) -> apsw.Connection:
        if read_only:
            connection = super()._connect(read_only=True)
            self.process.resources.append(Closing(connection))
            return connection
        made = open_connection(self.path, self.synchronous, factory=DiskConnection)
        assert isinstance(made, DiskConnection)
        made.attach(self)
        return made


class Closing:
    """A connection that the kernel closes."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection

    def taken_back(self) -> None:
        self.connection.close(True)
