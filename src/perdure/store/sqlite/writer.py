"""Writing: the runner's batches, and the requests of everyone else.

1. A batch is one transaction, begun with IMMEDIATE. If anyone else has written since the last one, its first
   statement reads the runner's epoch: a stale runner is refused.
2. After any error the transaction is rolled back; the file is as before the batch.
3. A transactional activity writes inside the same transaction, fenced by a savepoint and an authorizer.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import apsw

from perdure.codec.payload import Blob, Payloads
from perdure.errors import (
    ExecutionExists,
    RowRefused,
    StaleRunner,
    StoreBusy,
    StoreError,
    TransactionLost,
)
from perdure.events import LAST_SEQ, Event
from perdure.store.batch import Batch, Parked
from perdure.store.rows import ExecutionRow
from perdure.store.sqlite import remnant
from perdure.store.sqlite.connection import Checkpoints, Patience, translate, translated
from perdure.store.sqlite.fence import Fence, SqliteTransaction
from perdure.store.sqlite.place import Place
from perdure.store.sqlite.queries import queries
from perdure.store.sqlite.watermark import Watermark

_Rows = Iterable[tuple[Any, ...]]


CHECKPOINT_BUSY_S = 0.05
"""How long emptying the log waits for readers."""


class Writer:
    """The one connection that writes. `now` gives microseconds since 1970."""

    def __init__(
        self,
        connection: apsw.Connection,
        path: Path,
        payloads: Payloads,
        now: Callable[[], int],
        checkpoints: Checkpoints = "always",
    ) -> None:
        self.connection = connection
        self.path = path
        self.payloads = payloads
        self.now = now
        self._replicates = checkpoints == "never"
        self._watermark = Watermark(path).path if checkpoints == "alone" else None
        """Where it is seen whether the runner replicates, if that is another process."""
        self.epoch: int | None = None
        self._left_as = -1
        """The version of the file after our last commit. The pager counts it up with every change by anyone."""
        self._place = Place(path)
        self._alone = threading.Lock()
        """Clients ask on their loop's thread while `gc` works on another."""
        self._sql = queries()
        self._fence = Fence(connection)
        connection.authorizer = self._fence.authorize

    def close(self) -> None:
        with self._alone:
            if self._place.left:  # SQLite would leave the log as it is, and that keeps the old name
                with suppress(apsw.Error):
                    self.connection.wal_checkpoint()
            self.connection.close()

    # --- the runner -------------------------------------------------------------------------------------------------

    def become_runner(self, description: str) -> int:
        with self._transaction():
            epoch = self._last_epoch() + 1
            self.connection.execute(self._sql["put_meta"], ("runner_epoch", epoch))
            self.connection.execute(self._sql["put_meta"], ("runner", description))
        self.epoch = epoch
        return epoch

    def _last_epoch(self) -> int:
        try:
            found = self.connection.execute(self._sql["epoch"]).get
        except UnicodeDecodeError:
            found = None
        if not isinstance(found, int) or not 0 <= found < 2**62:
            hint = "another program wrote to it: restore a backup"
            raise StoreError(f"{self.path} is damaged: it does not tell who ran it last", hint=hint)
        return found

    def commit(self, batch: Batch) -> None:
        try:
            self._begin()
            self._write(batch)
            self.connection.execute("COMMIT")
            self._left_as = self.connection.data_version()
        except apsw.Error as error:
            self.rollback()
            raise translate(self.path, error) from error
        except BaseException:
            self.rollback()
            raise

    def confirm(self) -> None:
        with translated(self.path):
            self._refuse_stale()

    def rollback(self) -> None:
        if self.connection.in_transaction:
            with translated(self.path):
                self.connection.execute("ROLLBACK")

    @contextmanager
    def savepoint(self) -> Iterator[SqliteTransaction]:
        with translated(self.path):
            self._begin()
            self.connection.execute("SAVEPOINT activity")
        transaction = SqliteTransaction(self.connection, self._fence)
        try:
            yield transaction
        except BaseException as error:
            transaction.close()
            self._still_open(error)
            with translated(self.path):
                self.connection.execute("ROLLBACK TO activity")
                self.connection.execute("RELEASE activity")
            raise
        transaction.close()
        self._still_open(None)
        with translated(self.path):
            self.connection.execute("RELEASE activity")

    def _still_open(self, error: BaseException | None) -> None:
        """Refuse to go on when the block's own statement ended the transaction."""
        if self.connection.in_transaction:
            return
        if isinstance(error, apsw.Error) and not isinstance(error, apsw.ConstraintError):  # no room, no memory, no disk
            raise translate(self.path, error) from error
        raise TransactionLost(f"a statement rolled back the runner's transaction: {error or 'no error'}") from error

    def _begin(self) -> None:
        """Open the transaction unless a savepoint block has, and refuse a runner that is not the last one."""
        if self.connection.in_transaction:
            return
        self._open_transaction()
        try:
            self._place.check()
        except BaseException:
            self.rollback()
            raise
        if self.connection.data_version() != self._left_as:  # else nobody has written since our last commit
            self._refuse_stale()

    def _open_transaction(self) -> None:
        if self._replicates or (self._watermark is not None and self._watermark.exists()):
            remnant.begin(self.connection, self.path)
        else:
            self.connection.execute("BEGIN IMMEDIATE")

    def _refuse_stale(self) -> None:
        epoch = self.connection.execute(self._sql["epoch"]).get
        if epoch != self.epoch:
            self.rollback()  # or the next try would find the transaction open and ask no more
            raise StaleRunner(
                f"{self.path}: another process became the runner (epoch {epoch}, ours was {self.epoch})",
                hint="this engine stopped; nothing was lost, the other one goes on",
            )

    def _write(self, batch: Batch) -> None:
        if batch.executions:
            self._insert_executions(batch.executions)
        for row in batch.reopened:
            if self.connection.execute(self._sql["newest_run"], (row.id,)).get != row.num:
                raise ExecutionExists(f"execution {row.id} has been replaced or deleted meanwhile")
        if batch.events:
            self._many("append_many", self._events(batch.events))
        if batch.statuses:
            rows = ((r.status.value, r.ended_at, r.problem, r.deployment, r.deadline_at, r.num) for r in batch.statuses)
            self._many("set_status_many", rows)
        if batch.timers:
            self._many("add_timer_many", ((due, row.num, seq, purpose) for row, due, seq, purpose in batch.timers))
        if batch.timers_done:
            self._many("remove_timer_many", batch.timers_done)
        if batch.state:
            self._put_state(batch)
        if batch.parked:
            self._put_inbox(batch.parked)
        if batch.inbox_moved:
            self._many("move_inbox_many", ((row.num, n) for n, row in batch.inbox_moved))
        if batch.inbox_done:
            self._many("remove_inbox_many", ((n,) for n in batch.inbox_done))
        if batch.heartbeats:
            inline = self.payloads.inline
            rows2 = ((num, seq, n, at, inline(details)) for (num, seq), (n, at, details) in batch.heartbeats.items())
            self._many("put_heartbeat_many", rows2)
        if batch.heartbeats_done:
            self._many("remove_heartbeat_many", batch.heartbeats_done)

    def _insert_executions(self, rows: list[ExecutionRow]) -> None:
        first: int = self.connection.execute(self._sql["next_num"]).get
        for num, row in enumerate(rows, first):
            row.num = num
        values = (
            (
                r.num, r.id, r.run, r.workflow, r.status.value, r.created_at, r.ended_at, r.parent_num, r.parent_seq,
                r.deadline_at, r.deployment, r.problem,
            )
            for r in rows
        )  # fmt: skip
        try:
            self._many("insert_execution_many", values)
        except apsw.ConstraintError as error:
            ids = ", ".join(row.id for row in rows[:5])
            raise ExecutionExists(f"one of these executions exists already: {ids}") from error

    def _events(self, events: Iterable[tuple[ExecutionRow, Event]]) -> list[tuple[Any, ...]]:
        plain_below = self.payloads.plain_below
        return [
            (row.num << 24 | e.seq, e.kind, e.at, e.ref, e.name, e.data, None)
            if e.seq <= LAST_SEQ and (e.data is None or len(e.data) < plain_below)
            else self._unusual(row, e)
            for row, e in events
        ]

    def _unusual(self, row: ExecutionRow, event: Event) -> tuple[Any, ...]:
        """Give the row of an event whose data may have to be encoded or stored apart, or for which there is no key."""
        if event.seq > LAST_SEQ:
            raise RowRefused(
                f"execution {row.id} has {event.seq - 1:,} events, as many as there can be",
                hint="let its workflow call continue_as_new() long before that",
            )
        assert event.data is not None
        key = row.num << 24 | event.seq
        stored = self.payloads.store(event.data)
        if isinstance(stored, Blob):
            self.connection.execute(self._sql["put_blob"], (stored.digest, stored.body))
            return (key, event.kind, event.at, event.ref, event.name, None, stored.digest)
        return (key, event.kind, event.at, event.ref, event.name, stored, None)

    def _put_state(self, batch: Batch) -> None:
        inline = self.payloads.inline
        put = [(row.num, key, inline(data)) for (row, key), data in batch.state.items() if data is not None]
        if put:
            self._many("put_state_many", put)
        gone = [(row.num, key) for (row, key), data in batch.state.items() if data is None]
        if gone:
            self._many("remove_state_many", gone)

    def _put_inbox(self, parked: list[Parked]) -> None:
        inline, at = self.payloads.inline, self.now()
        rows = [(p.row.num, p.what, p.kind, p.ref, p.name, inline(p.data), at) for p in parked]
        self._many("put_inbox_many", rows)

    # --- everyone else ----------------------------------------------------------------------------------------------

    def create(self, created: list[tuple[ExecutionRow, list[Event]]]) -> None:
        with self._transaction():
            for row, _ in created:
                if row.run > 1 and self.connection.execute(self._sql["open_run"], (row.id,)).get:
                    raise ExecutionExists(f"execution {row.id} is open")  # it was opened again meanwhile
            self._insert_executions([row for row, _ in created])
            self._many("append_many", self._events((row, event) for row, events in created for event in events))

    def request(self, requests: list[Parked]) -> None:
        with self._transaction():
            self._put_inbox(requests)

    def run(self, statements: Iterable[tuple[str, tuple[Any, ...]]]) -> None:
        """Run named statements in one transaction."""
        with self._transaction():
            for name, values in statements:
                self.connection.execute(self._sql[name], values)

    def vacuum(self, pages: int) -> int:
        """Give up to `pages` free pages back to the file system; give how many are still free."""
        with self._alone, translated(self.path):
            for _ in self.connection.execute(f"PRAGMA incremental_vacuum({int(pages)})"):
                pass
            free: int = self.connection.pragma("freelist_count")
            if not free:
                with suppress(apsw.BusyError):  # another connection is at it
                    self.connection.wal_checkpoint()  # only this makes the file itself shorter
        return free

    def checkpoint(self) -> None:
        with self._alone, translated(self.path):
            # someone's long read must not keep the runner waiting: its caller tries again later
            self.connection.set_busy_handler(Patience(CHECKPOINT_BUSY_S))
            try:
                with suppress(apsw.BusyError):
                    self.connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
            finally:
                self.connection.set_busy_handler(Patience())
        log = self.path.with_name(self.path.name + "-wal")
        if log.exists() and log.stat().st_size:
            raise StoreBusy(f"{self.path}: its log could not be emptied", hint="another program reads for long")

    def _many(self, name: str, rows: _Rows) -> None:
        self.connection.executemany(self._sql[name], rows)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._alone, translated(self.path):
            self._open_transaction()
            try:
                self._place.check()
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                self.rollback()
                raise
