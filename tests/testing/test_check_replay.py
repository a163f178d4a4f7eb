"""Recorded histories are replayed against other code, and what does not fit is told to the line."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from perdure import (
    Client,
    Engine,
    NonDeterminismError,
    Retry,
    Signal,
    Status,
    activity,
    continue_as_new,
    patched,
    state,
    workflow,
)
from perdure.codec.encryption import AesGcmCodec
from perdure.codec.payload import Payloads
from perdure.errors import InvalidValue, NotOurFile, StoreError
from perdure.store import Filter
from perdure.store.sqlite import SqliteStore
from perdure.store.sqlite.recordings import Recordings, Selection
from perdure.testing.replay_report import Misfit
from perdure.testing.replaying import check_replay, save_histories

go = Signal("go", bool)
OPEN = [status for status in Status if not status.closed]


@dataclass
class Order:
    id: str
    cents: int = 100


@activity(retry=Retry(attempts=1))
async def charge(order: Order) -> str:
    if order.cents < 0:
        raise ValueError("nothing to charge")
    return f"receipt-{order.id}"


@activity
async def check(order: Order) -> None: ...


@workflow
async def fulfil(order: Order) -> str:
    state["step"] = None
    receipt = await charge(order)
    del state["step"]
    await asyncio.sleep(0)
    await go.receive()
    return receipt


@workflow(name="fulfil")
async def fulfil_checked_first(order: Order) -> str:
    state["step"] = None
    await check(order)
    return await charge(order)


@workflow(name="fulfil")
async def fulfil_patched(order: Order) -> str:
    state["step"] = None
    if patched("check first"):
        await check(order)
    receipt = await charge(order)
    del state["step"]
    await go.receive()
    return receipt


async def waits(engine: Engine, id: str) -> None:
    while (await engine.describe(id)).status is not Status.WAITING:
        await asyncio.sleep(0.005)


async def record(database: Path, *, close: int = 1, wait: int = 1) -> None:
    """Bring `close` orders to their end and `wait` ones to where they wait."""
    async with Engine(database, [fulfil], synchronous="normal") as engine:
        for n in range(close):
            execution = await engine.start(fulfil, Order(f"c{n}"), id=f"closed-{n}")
            await execution.signal(go, True)
            await execution.result()
        for n in range(wait):
            await engine.start(fulfil, Order(f"w{n}"), id=f"waiting-{n}")
            await waits(engine, f"waiting-{n}")


def only(report):
    """Give the one mismatch that there is."""
    assert len(report.mismatches) == 1, str(report)
    return report.mismatches[0]


# --- what fits and what does not ------------------------------------------------------------------------------------


async def test_the_same_code_fits(database):
    await record(database, close=2, wait=3)
    report = check_replay(database, [fulfil])
    assert report.ok
    assert report
    assert report.checked == 5
    assert report.by_workflow == {"fulfil": 5}
    report.raise_for_mismatch()
    assert str(report) == "5 histories of 1 workflow replayed: all fit"


async def test_other_code_is_told_with_event_expected_got_and_line(database):
    await record(database)
    report = check_replay(database, [fulfil_checked_first], ids=["waiting-0"])
    assert not report.ok
    found = only(report)
    assert (found.id, found.run, found.workflow, found.status) == ("waiting-0", 1, "fulfil", Status.WAITING)
    assert (found.what, found.seq) == (Misfit.MISMATCH, 3)
    assert found.expected == '#3 activity_scheduled charge {"order":{"id":"w0","cents":100}}'
    assert found.got == '#3 activity_scheduled check {"order":{"id":"w0","cents":100}}'
    line = fulfil_checked_first.fn.__code__.co_firstlineno + 3
    assert found.source == f"{__file__}:{line} in fulfil_checked_first"
    with pytest.raises(NonDeterminismError, match=r"got      #3 activity_scheduled check"):
        report.raise_for_mismatch()


async def test_a_patched_path_fits(database):
    await record(database)
    assert check_replay(database, [fulfil_patched]).ok


async def test_mismatches_of_one_cause_are_told_once(database):
    await record(database, close=0, wait=8)
    text = str(check_replay(database, [fulfil_checked_first]))
    assert text.startswith("8 histories of 1 workflow replayed: 0 fit, 8 not\n\nworkflow fulfil: 8 executions\n")
    assert text.count("expected #3") == 1
    assert "and so do waiting-6, waiting-5, waiting-4, waiting-3 and 3 more" in text


@workflow(name="fulfil")
async def fulfil_in_other_types(order: int) -> None:
    await go.receive()


async def test_a_recorded_value_that_does_not_fit_its_type_is_told(database):
    await record(database, close=0)
    found = only(check_replay(database, [fulfil_in_other_types]))
    assert (found.what, found.seq) == (Misfit.VALUE, 1)
    assert "order" in found.message
    assert 'started fulfil {"order":{"id":"w0","cents":100}}' in found.got


@workflow(name="fulfil")
async def fulfil_reading_files(order: Order) -> None:
    Path("/etc/hostname").read_text()  # perdure: deterministic


async def test_code_that_the_guard_refuses_is_told(database):
    await record(database, close=0)
    found = only(check_replay(database, [fulfil_reading_files]))
    assert found.what is Misfit.REFUSED
    assert "open('/etc/hostname') in workflow code" in found.message
    assert f"{__file__}:" in found.message


async def test_a_workflow_that_is_not_given_is_told(database):
    @workflow
    async def other() -> None: ...

    await record(database)
    report = check_replay(database, [other])
    assert [found.what for found in report.mismatches] == [Misfit.UNKNOWN_WORKFLOW] * 2
    assert "workflow fulfil is not known here (known: other)" in report.mismatches[0].message


@pytest.mark.filterwarnings("ignore::perdure.errors.DeterminismWarning")
async def test_strict_refuses_code_before_anything_is_replayed(database):
    @workflow
    async def timed() -> float:
        return time.time()

    await record(database)
    with pytest.raises(NonDeterminismError, match=r"time\.time"):
        check_replay(database, [fulfil, timed], strict=True)


# --- every kind of history ------------------------------------------------------------------------------------------


@workflow
async def child(n: int) -> int:
    return n


@workflow
async def family(n: int) -> int:
    return sum(await asyncio.gather(*(child(i) for i in range(n))))


@workflow
def plain(order: Order) -> str:
    receipt = charge.submit(order).result()
    go.receive().result()
    return receipt


@workflow(name="plain")
def plain_twice(order: Order) -> str:
    charge.submit(order)
    return charge.submit(order).result()


@workflow
async def counting(left: int) -> int:
    state["left"] = await child(left)
    if left:
        continue_as_new(left - 1)
    await go.receive()
    return state["left"]


flaky_fails = True


@activity(retry=Retry(attempts=1))
async def flaky() -> str:
    if flaky_fails:
        raise ConnectionError("down")
    return "up"


@workflow
async def trying() -> str:
    await child(1)
    return await flaky()


async def test_children_def_workflows_continued_runs_and_cancelled_ones_fit(database):
    async with Engine(database, [family, plain, counting, fulfil]) as engine:
        assert await (await engine.start(family, 3, id="family")).result() == 3
        await engine.start(plain, Order("p"), id="plain")
        counted = await engine.start(counting, 2, id="counting")
        await counted.signal(go, True)
        await counted.result()
        cancelled = await engine.start(fulfil, Order("x"), id="cancelled", timeout_s=3600)
        await waits(engine, "cancelled")
        await cancelled.cancel("reason")
        with pytest.raises(Exception, match="cancelled"):
            await cancelled.result()
        await waits(engine, "plain")
    report = check_replay(database, [family, plain, counting, fulfil])
    assert report.ok, report
    assert report.by_workflow == {"family": 1, "child": 6, "plain": 1, "counting": 3, "fulfil": 1}
    found = only(check_replay(database, [plain_twice], workflow="plain"))
    assert found.expected == "no command here"
    assert found.source.endswith(" in plain_twice")


async def test_a_retried_execution_is_replayed_without_what_was_taken_back(database):
    global flaky_fails
    async with Engine(database, [trying]) as engine:
        flaky_fails = True
        execution = await engine.start(trying, id="t")
        with pytest.raises(ConnectionError):
            await execution.result()
        assert check_replay(database, [trying]).ok
        flaky_fails = False
        await execution.retry()
        assert await execution.result() == "up"
    report = check_replay(database, [trying])
    assert report.ok, report


async def test_paused_executions_fit_with_what_waits_for_them(database):
    async with Engine(database, [fulfil]) as engine:
        execution = await engine.start(fulfil, Order("1"), id="p")
        await waits(engine, "p")
        await execution.pause()
        await execution.signal(go, True)
    assert check_replay(database, [fulfil], status=["paused"]).checked == 1
    assert check_replay(database, [fulfil]).ok
    found = only(check_replay(database, [fulfil_reading_after_go]))
    assert (found.status, found.what) == (Status.PAUSED, Misfit.REFUSED)


@workflow(name="fulfil")
async def fulfil_reading_after_go(order: Order) -> str:
    state["step"] = None
    await charge(order)
    del state["step"]
    await go.receive()
    return Path("/etc/hostname").read_text()  # perdure: deterministic


async def test_an_execution_that_the_guard_has_blocked_is_told_though_its_history_fits(database):
    async with Engine(database, [fulfil_reading_after_go]) as engine:
        execution = await engine.start(fulfil_reading_after_go, Order("1"), id="b")
        await waits(engine, "b")
        await execution.signal(go, True)
        assert (await execution.info()).status is Status.BLOCKED
    found = only(check_replay(database, [fulfil_reading_after_go]))
    assert (found.status, found.what) == (Status.BLOCKED, Misfit.REFUSED)
    assert check_replay(database, [fulfil]).ok


async def test_what_another_process_asked_for_meanwhile_is_tried(database):
    await record(database, close=0, wait=1)
    async with Engine(database, [fulfil]) as engine:
        await engine.execution("waiting-0").pause()
    async with Client(database) as client:
        await client.execution("waiting-0").signal(go, True)
    assert check_replay(database, [fulfil]).ok
    assert only(check_replay(database, [fulfil_reading_after_go])).what is Misfit.REFUSED


async def test_executions_that_have_not_begun_fit_any_code_that_takes_their_input(database):
    SqliteStore(database).close()
    async with Client(database) as client:
        await client.start(fulfil, Order("1"), id="pending")
    assert check_replay(database, [fulfil_checked_first]).ok
    assert only(check_replay(database, [fulfil_in_other_types])).what is Misfit.VALUE


async def test_one_that_was_terminated_before_its_code_ran_fits(database):
    async with Engine(database, [child]):
        pass
    async with Client(database) as client:
        execution = await client.start(fulfil, Order("1"), id="unknown")
    async with Engine(database, [child]) as engine:
        while (await engine.describe("unknown")).status is not Status.BLOCKED:
            await asyncio.sleep(0.005)
        await engine.execution(execution.id).terminate()
        assert (await engine.describe("unknown")).status is Status.TERMINATED
    assert check_replay(database, [fulfil]).ok


async def test_encrypted_histories_are_read_with_their_key_only(database):
    codec, other = (AesGcmCodec({"k": bytes([n]) * 32}, current="k") for n in (1, 2))
    async with Engine(database, [fulfil], codec=codec) as engine:
        await engine.start(fulfil, Order("1"), id="e")
        await waits(engine, "e")
    assert check_replay(database, [fulfil], codec=codec).ok
    with pytest.raises(StoreError, match="encoded"):
        check_replay(database, [fulfil])
    found = only(check_replay(database, [fulfil], codec=other))
    assert found.what is Misfit.UNREADABLE


async def test_damage_in_one_history_does_not_hide_the_others(database):
    await record(database, close=2, wait=0)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE perdure_event SET kind = 99 WHERE execution = 1 AND seq = 2")
        connection.execute("UPDATE perdure_event SET data = '{' WHERE execution = 2 AND kind = 40")
    connection.close()
    report = check_replay(database, [fulfil])
    assert report.checked == 2
    assert {found.id: found.what for found in report.mismatches} == {
        "closed-0": Misfit.UNREADABLE,
        "closed-1": Misfit.MISMATCH,
    }
    assert "99" in next(found.message for found in report.mismatches if found.id == "closed-0")


# --- choosing -------------------------------------------------------------------------------------------------------


async def test_what_is_checked_can_be_chosen(database):
    await record(database, close=3, wait=2)
    heard: list[tuple[int, int | None]] = []
    assert check_replay(database, [fulfil], limit=4, progress=lambda *now: heard.append(now)).checked == 4
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert check_replay(database, [fulfil], status=OPEN).checked == 2
    assert check_replay(database, [fulfil], status=["completed"], ids=["closed-0", "waiting-0"]).checked == 1
    assert check_replay(database, [fulfil], workflow="other").checked == 0
    newest = check_replay(database, [fulfil_checked_first], limit=2)
    assert [found.id for found in newest.mismatches] == ["waiting-1", "waiting-0"]


async def test_more_than_a_page_is_read(database, monkeypatch):
    monkeypatch.setattr("perdure.store.sqlite.recordings.PAGE", 3)
    await record(database, close=0, wait=7)
    assert check_replay(database, [fulfil]).checked == 7
    assert check_replay(database, [fulfil], limit=6).checked == 6


# --- sources --------------------------------------------------------------------------------------------------------


async def test_history_files_hold_what_the_database_holds(database, tmp_path):
    await record(database, close=1, wait=2)
    file = tmp_path / "all.jsonl"
    assert save_histories(database, file) == 3
    assert check_replay(file, [fulfil]).checked == 3
    assert check_replay(file, [fulfil]).ok
    found = check_replay(file, [fulfil_checked_first]).mismatches
    assert [(one.id, one.seq, one.status) for one in found] == [
        ("waiting-1", 3, None),
        ("waiting-0", 3, None),
        ("closed-0", 3, None),
    ]
    assert check_replay(file, [fulfil], ids=["closed-0"], limit=5).checked == 1
    assert check_replay([file, database], [fulfil], limit=5).checked == 5


async def test_a_history_that_was_saved_before_its_code_began_fits(database, tmp_path):
    SqliteStore(database).close()
    async with Client(database) as client:
        for id in ("pending", "ended"):
            await client.start(fulfil, Order("o"), id=id)
        await client.execution("ended").terminate()
    file = tmp_path / "begun.jsonl"
    assert save_histories(database, file) == 2
    for source in (database, file):
        report = check_replay(source, [fulfil])
        assert (report.checked, report.mismatches) == (2, [])
    file.write_text(file.read_text().replace('"o"', "17"))
    assert [found.what for found in check_replay(file, [fulfil]).mismatches] == ["value", "value"]


async def test_a_folder_of_history_files_is_checked(database, tmp_path):
    await record(database, close=1, wait=1)
    folder = tmp_path / "histories"
    folder.mkdir()
    with pytest.raises(StoreError, match="has no history file"):
        check_replay(folder, [fulfil])
    save_histories(database, folder / "a.jsonl", status=["waiting"])
    save_histories(database, folder / "b.jsonl", status=["completed"])
    assert check_replay(folder, [fulfil]).checked == 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda lines: ["nonsense", *lines], "line 1 is not an event"),
        (lambda lines: lines[1:], "has event #2 where #1 should be"),
        (lambda lines: [lines[0], *lines[2:]], "has event #3 where #2 should be"),
        (lambda lines: [line.replace('"started"', '"begun"') for line in lines], "unknown kind 'begun'"),
        (lambda lines: [json.dumps({**json.loads(lines[0]), "seq": "one"})], "line 1 is not an event"),
        (lambda lines: [json.dumps({"seq": 1, "kind": "started"})], "missing required field `id`"),
    ],
)  # fmt: skip
async def test_a_file_that_is_no_history_is_refused_with_its_line(database, tmp_path, change, message):
    await record(database, close=0)
    file = tmp_path / "h.jsonl"
    save_histories(database, file)
    file.write_text("\n".join(change(file.read_text().splitlines())))
    with pytest.raises(InvalidValue, match=message):
        check_replay(file, [fulfil])


async def test_a_source_that_cannot_be_used_is_refused(tmp_path):
    with pytest.raises(StoreError, match="cannot be read"):
        check_replay(tmp_path / "missing.db", [fulfil])
    sqlite3.connect(tmp_path / "other.db").execute("CREATE TABLE t (x)").connection.close()
    with pytest.raises(NotOurFile):
        check_replay(tmp_path / "other.db", [fulfil])


async def test_nothing_is_written_and_an_older_file_is_not_brought_up_to_date(database):
    await record(database)
    with sqlite3.connect(database) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    before = hashlib.sha256(database.read_bytes()).digest()
    assert check_replay(database, [fulfil]).ok
    assert hashlib.sha256(database.read_bytes()).digest() == before
    older = database.with_name("older.db")
    shutil.copy(database, older)
    connection = sqlite3.connect(older)
    connection.execute("PRAGMA user_version = 1")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with pytest.raises(StoreError, match="has schema version 1"):
        check_replay(older, [fulfil])


async def test_it_works_beside_a_runner(database):
    async with Engine(database, [fulfil], synchronous="normal") as engine:
        for n in range(20):
            await engine.start(fulfil, Order(str(n)), id=f"o-{n}")
        checks = [asyncio.create_task(asyncio.to_thread(check_replay, database, [fulfil])) for _ in range(5)]
        for n in range(20):
            await engine.execution(f"o-{n}").signal(go, True)
            await engine.execution(f"o-{n}", fulfil).result()
        for report in await asyncio.gather(*checks):
            assert report.ok, report
            assert report.checked == 20
        assert len(await engine.list(Filter(status=(Status.COMPLETED,)))) == 20


async def test_what_is_read_of_an_execution_is_of_one_moment(database, monkeypatch):
    SqliteStore(database).close()
    async with Client(database) as client:
        await client.start(fulfil, Order("1"), id="o")

    def meanwhile() -> None:
        async def run() -> None:
            async with Engine(database, [fulfil]) as engine:
                await waits(engine, "o")

        thread = threading.Thread(target=asyncio.run, args=(run(),))
        thread.start()
        thread.join()

    with Recordings(database, Payloads()) as recordings:
        get = recordings.reader.get
        monkeypatch.setattr(recordings.reader, "get", lambda num: (get(num), meanwhile())[0])
        (recorded,) = recordings.read(Selection())
    assert recorded.row.status is Status.PENDING
    assert len(recorded.events) == 1
    assert len(await history(database, "o")) > 1


async def history(database: Path, id: str) -> list[object]:
    async with Client(database) as client:
        return [event async for event in client.execution(id).history()]
