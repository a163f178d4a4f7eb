"""The SQLite store: the verbs of `store.Store` on one file."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import apsw

from perdure.codec.payload import Payloads
from perdure.errors import StoreError, StoreReadOnly
from perdure.events import Event
from perdure.store.batch import Batch, Parked
from perdure.store.protocol import Filter
from perdure.store.rows import Backlog, ExecutionRow, InboxRow, TimerRow
from perdure.store.sqlite import checkup, remnant, schema, startup
from perdure.store.sqlite.connection import Checkpoints, Synchronous, open_connection, translated
from perdure.store.sqlite.fence import SqliteTransaction
from perdure.store.sqlite.listing import Listing
from perdure.store.sqlite.lock import RunnerLock
from perdure.store.sqlite.reader import Reader
from perdure.store.sqlite.retention import Retention
from perdure.store.sqlite.writer import Writer
from perdure.types import ExecutionInfo, HistoryEvent, Status

LONG_PAGES = 4_000
"""A log so long is moved into the file by whoever writes, when there is no runner."""


def wall_clock_us() -> int:
    return time.time_ns() // 1000


class SqliteStore:
    """See `store.Store` for each verb. One writing and one reading connection; the writing one is opened when first
    needed."""

    def __init__(
        self,
        path: Path,
        *,
        synchronous: Synchronous = "full",
        payloads: Payloads | None = None,
        now: Callable[[], int] = wall_clock_us,
        create: bool = True,
        checkpoints: Checkpoints = "alone",
    ) -> None:
        self.path = path
        self.checkpoints = checkpoints
        self.synchronous: Synchronous = synchronous
        self.payloads = payloads or Payloads(None)
        self.now = now
        self._epoch: int | None = None
        if not create and not path.exists():
            raise StoreError(f"there is no database {path}", hint="check the path; a worker or Engine creates the file")
        self._prepare()

    def _prepare(self) -> None:
        connection = self._connect()
        try:
            with translated(self.path):
                schema.migrate(connection, self.path)
        finally:
            connection.close()

    def _connect(self, *, read_only: bool = False) -> apsw.Connection:
        """Open a connection. A simulation replaces this."""
        return open_connection(self.path, self.synchronous, read_only=read_only, checkpoints=self.checkpoints)

    @cached_property
    def reader(self) -> Reader:
        return Reader(self._connect(read_only=True), self.path, self.payloads)

    @cached_property
    def writer(self) -> Writer:
        writer = Writer(self._connect(), self.path, self.payloads, self.now, self.checkpoints)
        try:
            with translated(self.path):
                startup.use_log(writer.connection)
                if self.checkpoints == "alone":
                    writer.connection.set_wal_hook(self._log_grew)
            self._check_codec(writer)
        except BaseException:
            writer.close()
            raise
        writer.epoch = self._epoch
        return writer

    def _log_grew(self, connection: apsw.Connection, database: str, pages: int) -> int:
        if pages > LONG_PAGES and not RunnerLock(self.path).holder():
            connection.wal_checkpoint()
        return apsw.SQLITE_OK

    def _check_codec(self, writer: Writer) -> None:
        """Keep plain text out of a file whose payloads are encoded: once it was written with a codec, it needs one."""
        encoded = self.reader.meta("encoded") is not None
        if encoded and self.payloads.codec is None:
            raise StoreError(
                f"the payloads of {self.path} are encoded (encrypted) and no codec was given",
                hint="pass the codec that they were written with, such as AesGcmCodec.from_environment()",
            )
        if not encoded and self.payloads.codec is not None:
            writer.run([("put_meta", ("encoded", 1))])

    @cached_property
    def listing(self) -> Listing:
        return Listing(self.reader)

    @cached_property
    def retention(self) -> Retention:
        return Retention(self.reader, self.writer)

    def close(self) -> None:
        tidy = self._tidier() if "reader" in self.__dict__ and "writer" not in self.__dict__ else None
        reader = self.__dict__.pop("reader", None)
        if reader is not None:  # first, since the last one to close tidies up, and only a writer can
            reader.connection.close()
        self._drop_writer()
        if tidy is not None:
            tidy.close()
        self.__dict__.pop("listing", None)

    def _tidier(self) -> apsw.Connection | None:
        """Give a connection that can tidy up; without one all that is new would stay in `-wal`."""
        try:
            return self._connect() if self.path.exists() else None
        except StoreError:
            return None

    # --- the runner's -----------------------------------------------------------------------------------------------

    def become_runner(self, description: str) -> int:
        startup.examine(self.writer.connection, self.path)
        self._epoch = self.writer.become_runner(description)
        return self._epoch

    def commit(self, batch: Batch) -> None:
        try:
            self.writer.commit(batch)
        except StoreReadOnly:
            self._drop_writer()
            raise

    def confirm(self) -> None:
        self.writer.confirm()

    @contextmanager
    def savepoint(self) -> Iterator[SqliteTransaction]:
        with self._writing() as writer, writer.savepoint() as transaction:
            yield transaction

    def rollback(self) -> None:
        if "writer" in self.__dict__:
            self.writer.rollback()

    @contextmanager
    def _writing(self) -> Iterator[Writer]:
        """Give the writer. One that turns out to be for reading only is not used again: it stays so when what was in
        the way is gone."""
        try:
            yield self.writer
        except StoreReadOnly:
            self._drop_writer()
            raise

    def _drop_writer(self) -> None:
        writer = self.__dict__.pop("writer", None)
        self.__dict__.pop("retention", None)
        if writer is not None:
            writer.close()

    def unfinished(self) -> list[ExecutionRow]:
        return self.reader.unfinished()

    def pending(self, limit: int) -> list[ExecutionRow]:
        return self.reader.pending(limit)

    def due_timers(self, now: int, limit: int) -> list[TimerRow]:
        return self.reader.due_timers(now, limit)

    def next_due(self) -> int | None:
        return self.reader.next_due()

    def has_timer(self, timer: TimerRow) -> bool:
        return self.reader.has_timer(timer)

    def inbox(self, after: int, limit: int) -> list[InboxRow]:
        return self.reader.inbox(after, limit)

    def parked(self, num: int) -> list[InboxRow]:
        return self.reader.parked(num)

    def heartbeat(self, num: int, seq: int) -> tuple[int, str | None] | None:
        return self.reader.heartbeat(num, seq)

    def changed(self) -> int:
        return self.reader.changed()

    # --- anyone's ---------------------------------------------------------------------------------------------------

    def create(self, created: list[tuple[ExecutionRow, list[Event]]]) -> None:
        with self._writing() as writer:
            writer.create(created)

    def request(self, requests: list[Parked]) -> None:
        with self._writing() as writer:
            writer.request(requests)

    def find(self, id: str) -> ExecutionRow | None:
        return self.reader.find(id)

    def ending(self, id: str) -> tuple[ExecutionRow, Event | None] | None:
        return self.reader.ending(id)

    def get(self, num: int) -> ExecutionRow | None:
        return self.reader.get(num)

    def children(self, num: int) -> list[ExecutionRow]:
        return self.reader.children(num)

    def history(self, num: int) -> list[Event]:
        return self.reader.history(num)

    def first_input(self, num: int) -> str | None:
        return self.reader.first_input(num)

    def last_event(self, num: int) -> Event | None:
        return self.reader.last_event(num)

    def state(self, num: int) -> dict[str, str]:
        return self.reader.state(num)

    # --- people's ---------------------------------------------------------------------------------------------------

    def list(self, filter: Filter) -> list[ExecutionInfo]:
        return self.listing.list(filter)

    def describe(self, id: str, run: int | None = None) -> ExecutionInfo | None:
        return self.listing.describe(id, run)

    def events(self, id: str, run: int | None, after: int, limit: int) -> Sequence[HistoryEvent]:
        return self.listing.events(id, run, after, limit)

    def counts(self) -> dict[Status, int]:
        return self.listing.counts()

    def backlog(self, now: int, backoff_after: int) -> Backlog:
        return self.listing.backlog(now, backoff_after)

    def expired(
        self, statuses: tuple[Status, ...], ended_before: int | None, keep: int | None, limit: int
    ) -> Sequence[tuple[int, str]]:
        return self.retention.expired(statuses, ended_before, keep, limit)

    def delete(self, nums: Sequence[int]) -> int:
        with self._writing():
            return self.retention.delete(nums)

    def vacuum(self, pages: int) -> int:
        with self._writing():
            return self.retention.vacuum(pages)

    def checkpoint(self) -> None:
        self.writer.checkpoint()

    def left_in_log(self) -> tuple[int, bytes] | None:
        """Give what lies behind the true end of the log: see `remnant.py`."""
        with translated(self.path):
            return remnant.lies(self.reader.connection, self.path)

    def log_bytes(self) -> int:
        log = self.path.with_name(self.path.name + "-wal")
        return log.stat().st_size if log.exists() else 0

    def check(self, quick: bool) -> Iterator[tuple[str, bool, str]]:
        with translated(self.path):
            yield from checkup.check(self.reader, quick)
