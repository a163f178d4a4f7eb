"""The views, as a person reads them with the sqlite3 program while the engine runs."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess

import pytest

from perdure import Engine, Retry, Signal, activity, current_attempt, workflow

go = Signal("go", str)
INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
pytestmark = pytest.mark.filterwarnings("error")


def read(database, sql: str) -> list[dict[str, object]]:
    command = ["sqlite3", "-readonly", "-json", str(database), sql]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout or "[]")


@activity
async def double(n: int) -> int:
    return n * 2


@activity(retry=Retry(attempts=None, initial_s=3600, jitter=False))
async def broken(name: str) -> None:
    raise ConnectionError(f"no route to {name}")


@activity(retry=Retry(attempts=2, initial_s=0))
async def hopeless() -> None:
    raise ValueError(f"attempt {current_attempt().number}")


@activity
async def later(name: str) -> str:
    current_attempt().finish_later()


@workflow
async def small(n: int) -> int:
    return await double(n)


@workflow
async def fails() -> None:
    await hopeless()


@workflow
async def parent() -> str:
    await asyncio.gather(small(1), broken("host"), later("boss"), go.receive(), asyncio.sleep(3600))
    return "never"


@pytest.fixture
def reader(database):
    return lambda sql: read(database, sql)


async def test_executions(database, reader, until):
    async with Engine(database, workflows=[small, fails, parent], deployment="v7") as engine:
        await (await engine.start(small, 21, id="ok")).result()
        with pytest.raises(ValueError, match="attempt 2"):
            await (await engine.start(fails, id="bad")).result()
        await engine.start(parent, id="open", timeout_s=9_000)
        await until(lambda: reader("SELECT 1 FROM executions WHERE id = 'open/small-2' AND status = 'completed'"))
        rows = {row["id"]: row for row in reader("SELECT * FROM executions")}
        columns = "id run workflow status created_at ended_at parent_id events input result error problem deployment"
        assert list(rows["ok"]) == columns.split()
        ok, bad, mother, child = (rows[id] for id in ("ok", "bad", "open", "open/small-2"))
    assert (ok["run"], ok["workflow"], ok["status"], ok["events"]) == (1, "small", "completed", 4)
    assert (ok["input"], ok["result"], ok["error"], ok["problem"]) == ('{"n":21}', "42", None, None)
    assert (ok["deployment"], ok["parent_id"]) == ("v7", None)
    assert INSTANT.fullmatch(ok["created_at"])
    assert ok["created_at"] <= ok["ended_at"]
    assert (bad["status"], bad["error"], bad["result"]) == ("failed", "builtins:ValueError: attempt 2", None)
    assert (mother["status"], mother["ended_at"], mother["result"]) == ("waiting", None, None)
    assert (child["parent_id"], child["status"], child["result"]) == ("open", "completed", "2")


async def test_history(database, reader):
    async with Engine(database, workflows=[small]) as engine:
        await (await engine.start(small, 21, id="ok")).result()
        rows = reader("SELECT * FROM history WHERE execution_id = 'ok' ORDER BY seq")
    assert list(rows[0]) == "execution_id run seq kind at ref name data".split()
    found = [(row["seq"], row["kind"], row["ref"], row["name"], row["data"]) for row in rows]
    assert found == [
        (1, "started", None, "small", '{"n":21}'),
        (2, "activity_scheduled", None, "double", '{"n":21}'),
        (3, "activity_completed", 2, None, "42"),
        (4, "completed", None, None, "42"),
    ]
    assert all(INSTANT.fullmatch(row["at"]) for row in rows)


async def test_pending_activities(database, reader, until):
    async with Engine(database, workflows=[parent], grace_s=0) as engine:
        await engine.start(parent, id="open")
        rows = await until(
            lambda: (
                reader("SELECT * FROM pending_activities WHERE last_error IS NOT NULL")
                and reader("SELECT * FROM pending_activities ORDER BY seq")
            )
        )
    names = "execution_id run seq activity arguments scheduled_at attempt last_error next_attempt_at".split()
    assert list(rows[0])[: len(names)] == names
    retrying, deferred = rows
    assert (retrying["execution_id"], retrying["run"], retrying["activity"]) == ("open", 1, "broken")
    assert (retrying["arguments"], retrying["attempt"]) == ('{"name":"host"}', 2)
    assert retrying["last_error"] == "no route to host"
    assert retrying["next_attempt_at"] > retrying["scheduled_at"]
    assert (deferred["activity"], deferred["attempt"], deferred["last_error"]) == ("later", 1, None)
    assert deferred["next_attempt_at"] is None


async def test_the_attempt_number_of_a_pending_activity_is_the_one_that_the_activity_sees(database, reader, until):
    numbers = []

    @activity(retry=Retry(initial_s=0))
    async def work() -> None:
        numbers.append(current_attempt().number)
        if len(numbers) < 3:
            raise ConnectionError
        await asyncio.Event().wait()

    @workflow
    async def job() -> None:
        await work()

    for expected in (3, 4):  # the second engine goes on after one that stopped in order
        async with Engine(database, workflows=[job], grace_s=0) as engine:
            await engine.start(job, id="x")
            await until(lambda expected=expected: numbers[-1:] == [expected])
            assert [row["attempt"] for row in reader("SELECT attempt FROM pending_activities")] == [expected]


async def test_timers(database, reader, until):
    async with Engine(database, workflows=[parent]) as engine:
        await engine.start(parent, id="open", timeout_s=9_000)
        await until(lambda: len(reader("SELECT * FROM timers")) == 3)
        rows = reader("SELECT * FROM timers ORDER BY due_at")
        await engine.execution("open").terminate()
        assert reader("SELECT * FROM timers") == []
    assert list(rows[0]) == "execution_id run seq due_at purpose".split()
    assert sorted(row["purpose"] for row in rows[:2]) == ["retry", "sleep"]
    assert rows[2]["purpose"] == "deadline"
    assert {row["execution_id"] for row in rows} == {"open"}
    assert all(INSTANT.fullmatch(row["due_at"]) for row in rows)


async def test_failures(database, reader):
    @workflow
    async def mother() -> None:
        await fails()

    async with Engine(database, workflows=[mother]) as engine:
        with pytest.raises(ValueError, match="attempt 2"):
            await (await engine.start(mother, id="m")).result()
        rows = reader("SELECT * FROM failures")
    assert list(rows[0]) == "execution_id run workflow seq what at name type message".split()
    found = {(row["execution_id"], row["what"], row["name"], row["type"], row["message"]) for row in rows}
    kind = "builtins:ValueError"
    assert found == {
        ("m/fails-2", "attempt", "hopeless", kind, "attempt 1"),
        ("m/fails-2", "activity", "hopeless", kind, "attempt 2"),
        ("m/fails-2", "execution", None, kind, "attempt 2"),
        ("m", "child", "fails", kind, "attempt 2"),
        ("m", "execution", None, kind, "attempt 2"),
    }


async def test_a_blocked_execution_stands_under_failures_with_its_problem(database, reader, until):
    @workflow(name="job")
    async def job_of_before() -> None:
        await go.receive()
        await double(1)

    async with Engine(database, workflows=[job_of_before]) as engine:
        execution = await engine.start(job_of_before, id="x")
        await execution.signal(go, "on")
        await execution.result()
        await engine.start(job_of_before, id="y")

    @workflow(name="job")
    async def job_of_today() -> None:
        await double(1)
        await go.receive()

    async with Engine(database, workflows=[job_of_today]) as engine:
        await engine.execution("y").signal(go, "on")
        (row,) = await until(lambda: reader("SELECT * FROM failures WHERE what = 'blocked'"))
    assert row["execution_id"] == "y"
    assert "double" in row["message"]
