"""What faults have found, each by its shortest way there."""

from __future__ import annotations

import asyncio
import errno
import shutil
import sqlite3
import sys

import apsw
import pytest
from fault_calls import SystemCalls
from fault_run import Run

from perdure import Client, Engine, Signal, activity, workflow
from perdure.errors import StoreBusy, StoreError, StoreFull, StoreReadOnly
from perdure.store.sqlite import SqliteStore, startup
from perdure.store.sqlite.connection import open_connection, translated

approved = Signal("approved", str)
replaces_calls = pytest.mark.skipif(sys.platform != "linux", reason="the calls are replaced with Linux's signatures")


@workflow
async def short(n: int) -> int:
    return n


async def test_a_result_that_came_while_paused_survives_a_commit_that_fails(place, monkeypatch, until):
    """The activity had left the memory of its execution, which was not dropped, so its result was ignored the second
    time: resumed, the execution waited for ever."""
    monkeypatch.setattr("perdure.engine.faults.WAIT_S", (0.001,))
    commit, done, failing = SqliteStore.commit, asyncio.Event(), False

    def fails_once(self, batch):
        nonlocal failing
        if failing:
            failing = False
            raise StoreFull("injected")
        commit(self, batch)

    monkeypatch.setattr(SqliteStore, "commit", fails_once)

    @activity
    async def work() -> str:
        await done.wait()
        return "done"

    @workflow
    async def job() -> str:
        return await work()

    async with Engine(place(), [job]) as engine:
        execution = await engine.start(job)
        await execution.pause()
        failing = True
        done.set()
        await until(lambda: not failing)
        await execution.resume()
        assert await execution.result(timeout_s=10) == "done"


@replaces_calls
def test_what_was_committed_is_let_out_though_the_timers_cannot_be_read_after_it(place):
    """After a commit in which a timer fired the next one is looked up. That failed, and with it what the commit had
    allowed: its attempts never started, its callers never heard."""
    found = 0
    for n in range(1, 400):
        run = Run(place())
        reads = _after_the_timer(run, n)
        with SystemCalls(reads) as calls:
            run.play(run.use)
        found += bool(calls.failed)
        if not calls.failed:
            break
    assert found > 5


def _after_the_timer(run: Run, n: int):
    count = 0

    def fault(number, call) -> int:
        nonlocal count
        if run.clock.monotonic() >= 5 and call.kind == "read":
            count += 1
            return errno.EIO if count == n else 0
        return 0

    return fault


@replaces_calls
async def test_a_connection_that_could_only_read_is_not_kept(place):
    """Refused once, SQLite opens a file for reading only, and stays so. A client could not write until its end."""
    path = place()
    SqliteStore(path).close()
    async with Client(path) as client:
        with SystemCalls(lambda number, call: errno.EACCES if call.kind == "open" else 0), pytest.raises(StoreError):
            await client.start(short, 1, id="x")
        await client.start(short, 1, id="x")


async def test_a_runner_whose_connection_can_only_read_opens_another(place, monkeypatch):
    monkeypatch.setattr("perdure.engine.faults.WAIT_S", (0.001,))
    async with Engine(place(), [short]) as engine:
        writer = engine._runner_store.writer
        writer.connection.pragma("query_only", True)
        with pytest.raises(StoreReadOnly, match="may not be written to"):
            await engine.start(short, 1)
        assert await (await engine.start(short, 2)).result(timeout_s=10) == 2
        assert engine._runner_store.writer is not writer


@replaces_calls
def test_an_error_that_someone_keeps_does_not_keep_the_file_open(place):
    """A connection that had lived on in a traceback was closed much later, and deleted by name the log of the file that
    had come into the place of its own."""
    path, kept = place(), []
    SqliteStore(path).close()
    for n in range(40):
        with SystemCalls(lambda number, call, n=n: errno.EIO if number == n else 0) as calls:
            try:
                open_connection(path).close()
            except StoreError as error:
                kept.append(error)
        if not calls.failed:
            break
    assert kept
    assert not [one for one in apsw.connections() if one.filename == str(path)]


async def test_a_closed_file_is_complete_without_its_log(place):
    """The last to close was a reader, which cannot tidy up: everything new stayed in `-wal`, and a copy of the file
    alone had nothing of it."""
    path = place()
    async with Engine(path, [short]) as engine:
        await engine.start(short, 1, id="x")
        assert [info.id for info in await engine.list()] == ["x"]
    copy = shutil.copy(path, path.with_name("copy.db"))
    with sqlite3.connect(copy) as plain:
        assert plain.execute("SELECT id FROM executions").fetchall() == [("x",)]
    assert not path.with_name(path.name + "-wal").exists()


async def test_a_client_does_not_write_with_another_journal(place):
    """A power cut while the file was made can leave it without a log. Only a runner looked for that."""
    path = place()
    SqliteStore(path).close()
    plain = apsw.Connection(str(path))
    plain.pragma("journal_mode", "delete")
    plain.close()
    async with Client(path) as client:
        await client.start(short, 1, id="x")
        assert client.store.writer.connection.pragma("journal_mode") == "wal"


@pytest.mark.parametrize(
    "code", [apsw.SQLITE_IOERR_FSYNC, apsw.SQLITE_IOERR_READ, apsw.SQLITE_NOMEM, apsw.SQLITE_PROTOCOL]
)
def test_every_error_of_the_disk_has_a_hint(place, code, monkeypatch):
    def fails(connection, path):
        raise apsw.exception_for(code)

    path = place()
    store = SqliteStore(path)
    monkeypatch.setattr(startup, "use_log", lambda connection: fails(connection, path))
    with pytest.raises(StoreError) as caught:
        store.become_runner("x")
    assert caught.value.hint
    store.close()


def test_a_lock_of_the_log_that_another_process_keeps_is_no_bug_of_ours(place):
    """SQLite calls it "locking protocol" when it has tried for ten seconds, and people were told to report that."""
    with pytest.raises(StoreBusy, match="another process kept the write lock"), translated(place()):
        raise apsw.exception_for(apsw.SQLITE_PROTOCOL)
