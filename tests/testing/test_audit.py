"""The audit of a database: nothing to say of a sound one, and a word for each thing that somebody broke in it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import apsw
import pytest

from perdure import Client, Engine, Retry, Signal, Status, activity, continue_as_new, current_attempt, state, workflow
from perdure.codec.encryption import AesGcmCodec
from perdure.errors import StoreError
from perdure.testing import audit

number = Signal("number", int)


@activity
async def give(n: int) -> int:
    return n


@activity(retry=Retry(initial_s=1_000, jitter=False))
async def fails() -> None:
    raise OSError("later")


@activity(total_timeout_s=1_000)
async def asks_outside() -> None:
    current_attempt().heartbeat("here")
    current_attempt().finish_later()


@workflow
async def waits() -> int:
    state["stage"] = "waiting"
    asyncio.get_running_loop().call_later(5_000, int)
    return await give(await number.receive())


@workflow
async def parent() -> int:
    state["n"] = await give(1)
    await asyncio.sleep(0)
    async with asyncio.timeout(3_000):
        return await waits.options(id="child").submit()


@workflow
async def ends(n: int) -> str:
    return "x" * 100_000 + str(await give(n))


@workflow
async def leaves(n: int) -> list[str]:
    return [await ends.options(id="ended").submit(n)]


@workflow
async def backs_off() -> None:
    await asyncio.gather(fails(), asks_outside())


@workflow
async def goes_on(n: int) -> int:
    state["left"] = n
    await give(n)
    if n:
        continue_as_new(n - 1)
    return n


WORKFLOWS = [waits, parent, ends, leaves, backs_off, goes_on]


async def _fill(database: Path, codec: AesGcmCodec | None = None) -> None:
    async with Engine(database, WORKFLOWS, codec=codec, grace_s=0) as engine:
        await engine.start(parent, id="parent")
        await engine.start(backs_off, id="backs off")
        await engine.start(waits, id="overdue", timeout_s=2_000)
        await (await engine.start(leaves, 1, id="leaves")).result(10)
        await (await engine.start(goes_on, 2, id="goes on")).result(10)
        while len(list(engine.store.due_timers(2**62, 100))) < 6 or engine.store.find("child") is None:
            await asyncio.sleep(0.005)
    async with Client(database, codec=codec) as client:
        await client.start(ends, 7, id="pending", timeout_s=60)
        await client.execution("overdue").signal(number, 1)


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> Path:
    database = tmp_path_factory.mktemp("audit") / "sound.db"
    asyncio.run(_fill(database))
    return database


@pytest.fixture
def database(filled: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(filled, tmp_path / "copy.db"))


def test_a_sound_database_has_nothing_to_be_said_of(filled):
    assert audit(filled) == []
    assert audit(str(filled)) == []


def test_an_encrypted_database_is_audited_with_its_key(tmp_path):
    codec = AesGcmCodec({"a": bytes(32)}, "a")
    asyncio.run(_fill(tmp_path / "a.db", codec))
    assert audit(tmp_path / "a.db", codec=codec) == []
    with pytest.raises(StoreError, match="no codec was given"):
        audit(tmp_path / "a.db")


async def test_a_database_is_audited_while_a_runner_is_at_work(database):
    async with Engine(database, WORKFLOWS) as engine:
        for n in range(20):
            await engine.start(goes_on, 5, id=f"busy-{n}")
            assert await asyncio.to_thread(audit, database) == []


def test_the_audit_changes_nothing(database):
    before = database.read_bytes()
    audit(database)
    assert database.read_bytes() == before


OF = "(SELECT num FROM perdure_execution WHERE id = '{}' ORDER BY run DESC LIMIT 1)"
PARENT, BACKS_OFF, OVERDUE, CHILD = (OF.format(id) for id in ("parent", "backs off", "overdue", "child"))

BROKEN = {
    "a gap": ("history", f"DELETE FROM perdure_event WHERE execution = {PARENT} AND seq = 3"),
    "no events": ("history", "DELETE FROM perdure_event WHERE execution = " + OF.format("pending")),
    "an instant before": ("history", f"UPDATE perdure_event SET at = 1 WHERE execution = {PARENT} AND seq = 3"),
    "no beginning": ("history", f"UPDATE perdure_event SET kind = 9 WHERE execution = {PARENT} AND seq = 1"),
    "an end twice": (
        "history",
        "INSERT INTO perdure_event SELECT 1 + (SELECT max(n) FROM perdure_event l "
        "WHERE l.execution = e.execution), 3, 9e18, e.ref, NULL, '1', NULL "
        f"FROM perdure_event e WHERE e.execution = {PARENT} AND e.kind = 3",
    ),
    "a reference to nothing": ("history", f"UPDATE perdure_event SET ref = 77 WHERE execution = {PARENT} AND kind = 3"),
    "a command after a note": (
        "history",
        f"INSERT INTO perdure_event SELECT max(n) + 1, 48, 9e18, NULL, 'p', NULL, NULL "
        f"FROM perdure_event WHERE execution = {BACKS_OFF}",
    ),
    "something after the end": (
        "history",
        "INSERT INTO perdure_event SELECT max(n) + 1, 9, 9e18, NULL, 'late', '1', NULL "
        "FROM perdure_event WHERE execution = " + OF.format("leaves"),
    ),
    "an unknown kind": ("unreadable", f"UPDATE perdure_event SET kind = 99 WHERE execution = {PARENT} AND seq = 3"),
    "a broken value": (
        "unreadable",
        f"UPDATE perdure_event SET data = '{{' WHERE execution = {PARENT} AND kind = 44",
    ),
    "a status of ended": ("status", f"UPDATE perdure_execution SET status = 'completed' WHERE num = {PARENT}"),
    "a status of open": (
        "status",
        "UPDATE perdure_execution SET status = 'waiting', ended_at = NULL WHERE num = " + OF.format("leaves"),
    ),
    "another end": ("status", "UPDATE perdure_execution SET ended_at = 1 WHERE num = " + OF.format("leaves")),
    "paused without a note": ("status", f"UPDATE perdure_execution SET status = 'paused' WHERE num = {PARENT}"),
    "pending again": ("status", f"UPDATE perdure_execution SET status = 'pending' WHERE num = {PARENT}"),
    "running without work": ("status", f"UPDATE perdure_execution SET status = 'running' WHERE num = {PARENT}"),
    "blocked without a reason": ("status", f"UPDATE perdure_execution SET status = 'blocked' WHERE num = {PARENT}"),
    "another workflow": ("status", f"UPDATE perdure_execution SET workflow = 'waits' WHERE num = {PARENT}"),
    "waiting in place of its retry": (
        "status",
        f"DELETE FROM perdure_timer WHERE execution = {BACKS_OFF} AND purpose = 1",
    ),
    "a timer lost": ("timers", f"DELETE FROM perdure_timer WHERE execution = {PARENT}"),
    "a timer later": ("timers", f"UPDATE perdure_timer SET due_at = due_at + 1 WHERE execution = {PARENT}"),
    "a deadline lost": ("timers", f"DELETE FROM perdure_timer WHERE execution = {OVERDUE} AND purpose = 2"),
    "a timer too many": ("timers", f"INSERT INTO perdure_timer VALUES (1, {PARENT}, 2, 0)"),
    "state lost": ("state", f"DELETE FROM perdure_state WHERE execution = {CHILD}"),
    "state that is older": ("state", f"UPDATE perdure_state SET data = '0' WHERE execution = {PARENT}"),
    "an unknown request": ("inbox", f"UPDATE perdure_inbox SET what = 'dance' WHERE execution = {OVERDUE}"),
    "an end of nothing": (
        "inbox",
        f"INSERT INTO perdure_inbox (execution, what, kind, ref, at) VALUES ({PARENT}, 'event', 3, 77, 1)",
    ),
    "an end again": (
        "inbox",
        f"INSERT INTO perdure_inbox (execution, what, kind, ref, at) VALUES ({PARENT}, 'event', 3, "
        f"(SELECT seq FROM perdure_event WHERE execution = {PARENT} AND kind = 40), 1)",
    ),
    "a heartbeat of an activity that has ended": (
        "heartbeats",
        f"INSERT INTO perdure_heartbeat SELECT execution, seq, 1, 1, NULL FROM perdure_event "
        f"WHERE execution = {PARENT} AND kind = 40",
    ),
    "a heartbeat of an attempt to come": (
        "heartbeats",
        f"UPDATE perdure_heartbeat SET attempt = 5 WHERE execution = {BACKS_OFF}",
    ),
    "a child lost": ("children", f"UPDATE perdure_execution SET parent = NULL WHERE num = {CHILD}"),
    "a child of another step": ("children", f"UPDATE perdure_execution SET parent_seq = 1 WHERE num = {CHILD}"),
    "an end of a child changed": (
        "children",
        "UPDATE perdure_event SET data = '\"else\"', blob = NULL WHERE kind = 6 AND execution = " + OF.format("leaves"),
    ),
    "a run lost": ("runs", "UPDATE perdure_execution SET id = 'elsewhere' WHERE id = 'goes on' AND run = 2"),
    "an older run open": (
        "runs",
        "UPDATE perdure_execution SET status = 'waiting' WHERE id = 'goes on' AND run = 1",
    ),
    "another input than continued with": (
        "runs",
        "UPDATE perdure_event SET data = '{\"n\":9}' WHERE kind = 2 AND execution = "
        "(SELECT num FROM perdure_execution WHERE id = 'goes on' AND run = 2)",
    ),
    "another state than inherited": (
        "runs",
        'UPDATE perdure_event SET data = \'{"state":{"left":7}}\' WHERE kind = 1 AND execution = '
        "(SELECT num FROM perdure_execution WHERE id = 'goes on' AND run = 2)",
    ),
    "a blob lost": ("blobs", "DELETE FROM perdure_blob"),
    "a blob miscounted": ("blobs", "UPDATE perdure_blob SET refs = refs + 1"),
    "events of nobody": ("rows", "INSERT INTO perdure_event VALUES (999 << 24 | 1, 2, 1, NULL, 'x', '{}', NULL)"),
    "state of nobody": ("rows", "INSERT INTO perdure_state VALUES (999, 'key', '1')"),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_somebody_broke_is_found(database, what):
    rule, sql = BROKEN[what]
    with apsw.Connection(str(database)) as connection:
        connection.execute(sql)
        assert connection.changes(), f"nothing was broken: {sql}"
    connection.close()
    found = audit(database)
    assert rule in {violation.rule for violation in found}, f"only {[str(violation) for violation in found]}"


def test_a_damaged_file_is_said_to_be_damaged(database):
    with database.open("r+b") as file:
        file.seek(4096 * 3)
        file.write(b"\xff" * 4096 * 4)
    assert {violation.rule for violation in audit(database)} == {"damage"}


def test_a_violation_reads_as_a_sentence(database):
    with apsw.Connection(str(database)) as connection:
        connection.execute(f"DELETE FROM perdure_state WHERE execution = {CHILD}")
    [violation] = audit(database)
    assert str(violation) == "state: child, run 1: its state 'stage' is None, and \"waiting\" in its history"


async def test_runs_that_were_deleted_are_not_missed(database):
    async with Client(database) as client:
        assert await client.gc(older_than_s=0, status=(Status.COMPLETED,)) > 0  # the last run, not those before
    assert audit(database) == []
