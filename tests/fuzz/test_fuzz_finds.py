"""What the fuzz tests have found, each in its smallest form: it stays with the execution that it is about."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec
import pytest
import zstandard
from fuzz_round import Base, Round, make_base
from fuzz_workload import DAY_S, PATIENCE_S, WORKFLOWS, Clock, approved, drive, expected, plain, quick, quiet

from perdure import Client, Engine, Retry, Signal, Status, activity, workflow
from perdure.codec.payload import DecodeError, Payloads
from perdure.errors import ExecutionNotFound
from perdure.store.sqlite import reader


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("base"), encrypted=False)


def change(database: Path, id: str, *statements: str) -> None:
    """Run SQL in which `:num` is the execution's key."""
    connection = apsw.Connection(str(database))
    num = connection.execute("SELECT num FROM perdure_execution WHERE id = ?", (id,)).get
    for sql in statements:
        connection.execute(sql, {"num": num} if ":num" in sql else {})
    connection.close()


class Spoiled(Round):
    """A round in which one execution is changed by hand."""

    def __init__(self, base: Base, folder: Path, victim: str, *statements: str) -> None:
        super().__init__(base, folder, 0)
        self.victims = [victim]
        self.healthy = [id for id in base.ids if id != victim]
        self.statements = statements

    def run(self) -> tuple[Status, str]:
        """Give how the victim stands after an engine has run."""
        shutil.copy(self.base.path, self.database)
        change(self.database, self.victims[0], *self.statements)
        asyncio.run(self._first_engine())
        found = asyncio.run(self._standing())
        asyncio.run(self._second_engine())
        return found

    async def _standing(self) -> tuple[Status, str]:
        async with Client(self.database) as client:
            with contextlib.suppress(ExecutionNotFound):
                info = await client.describe(self.victims[0])
                return info.status, info.problem or ""
        return Status.BLOCKED, "not to be found by its id"


LATE = "INSERT INTO perdure_timer (due_at, execution, seq, purpose) VALUES (5, :num, 3, {})"
ASKED = "INSERT INTO perdure_inbox (execution, what, kind, ref, name, data, at) VALUES (:num, {}, 0)"
BLOCKED = {
    "an event of an unknown kind": (
        "sleeper-0", "UPDATE perdure_event SET kind = 99 WHERE execution = :num AND seq = 2", "unknown kind 99",
    ),
    "a gap": (
        "sleeper-0", "DELETE FROM perdure_event WHERE execution = :num AND seq = 3", "gaps",
    ),
    "a history that begins in the middle": (
        "sleeper-0", "UPDATE perdure_event SET kind = 9 WHERE execution = :num AND seq = 1", "how it began",
    ),
    "a payload that is no text": (
        "sleeper-0", "UPDATE perdure_event SET data = CAST(x'22ff22' AS TEXT) WHERE execution = :num AND seq = 1",
        "no codec was given",
    ),
    "a payload that is a number": (
        "sleeper-0", "UPDATE perdure_event SET data = 5 WHERE execution = :num AND seq = 1", "payload is a int",
    ),
    "a name that is no text": (
        "sleeper-0", "UPDATE perdure_event SET name = CAST(x'ff' AS TEXT) WHERE execution = :num AND seq = 1",
        "a name or an instant that is none",
    ),
    "a large payload that is gone": (
        "keeper-0", "DELETE FROM perdure_blob", "not in the file",
    ),
    "a command whose data is no JSON": (
        "sleeper-0", "UPDATE perdure_event SET data = '[' WHERE execution = :num AND kind = 42", "does not fit",
    ),
    "a failure that is none": (
        "retrier-0", "UPDATE perdure_event SET data = '{}' WHERE execution = :num AND kind = 4", "does not fit",
    ),
    "a note that is none": (
        "retrier-0", "UPDATE perdure_event SET data = '{\"attempt\":\"x\"}' WHERE execution = :num AND kind = 20",
        "cannot be read",
    ),
    "a reopening of nothing": (
        "sleeper-0", "INSERT INTO perdure_event (n, kind, at, data) VALUES (:num << 24 | 6, 25, 0, '[]')",
        "reopens nothing",
    ),
    "a next attempt at no instant that there is": (
        "retrier-0", """UPDATE perdure_event SET data = '{"attempt":1,"retry_at":99999999999999999999999}'
        WHERE execution = :num AND kind = 20""", "",
    ),
    "an instant at the end of all": (
        "receiver-0", "UPDATE perdure_event SET at = 9223372036854775807 WHERE execution = :num", "",
    ),
    "a failure of a class that no future takes": (
        "outsider-0", ASKED.format("'event', 4, 2, NULL, '{\"type\":\"builtins:StopIteration\"}'"), "",
    ),
    "a result from outside that is no failure": (
        "outsider-0", ASKED.format("'event', 4, 2, NULL, '{}'"), "does not fit",
    ),
    "a reason that is no text": (
        "receiver-0", ASKED.format("'event', 10, NULL, NULL, '{'"), "does not fit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", BLOCKED)
def test_it_is_set_aside_with_a_reason_and_the_others_go_on(base: Base, tmp_path: Path, what: str):
    victim, sql, reason = BLOCKED[what]
    status, problem = Spoiled(base, tmp_path, victim, sql).run()
    if reason:
        assert status is Status.BLOCKED
        assert reason in problem
        assert "please report" not in problem


PASSED_OVER = {
    "a timer of an unknown purpose": ("sleeper-0", LATE.format(44)),
    "a timer below all instants": (
        "sleeper-0", "UPDATE perdure_timer SET due_at = -9223372036854775808 WHERE execution = :num",
    ),
    "a status that there is not, with a timer": (
        "sleeper-0", "UPDATE perdure_execution SET status = 'unheard of' WHERE num = :num", LATE.format(0),
    ),
    "a request of an unknown kind": ("sleeper-0", ASKED.format("'event', 99, NULL, NULL, NULL")),
    "an event that is no input": ("sleeper-0", ASKED.format("'event', 60, NULL, NULL, '1'")),
    "a request that there is not": ("sleeper-0", ASKED.format("'unheard of', NULL, NULL, NULL, NULL")),
    "a request whose words are no text": ("sleeper-0", ASKED.format("CAST(x'ff' AS TEXT), 9, 1, NULL, NULL")),
    "a completion with digits that are none": ("outsider-0", ASKED.format("'complete', NULL, NULL, '1.²3.1.x', '1'")),
    "an id that is no text": ("sleeper-0", "UPDATE perdure_execution SET id = CAST(x'61ff' AS TEXT) WHERE num = :num"),
    "a workflow that is no text": (
        "quick-late0", "UPDATE perdure_execution SET workflow = CAST(x'ff' AS TEXT) WHERE num = :num",
    ),
    "a child of itself": ("family-0", "UPDATE perdure_execution SET parent = num, parent_seq = 2 WHERE num = :num"),
    "a second open run, with a timer": (
        "sleeper-0", """INSERT INTO perdure_execution (num, id, run, workflow, status, created_at)
        SELECT 1000, id, 2, workflow, 'running', 0 FROM perdure_execution WHERE num = :num""",
        "INSERT INTO perdure_timer (due_at, execution, seq, purpose) VALUES (5, 1000, 3, 0)",
    ),
    "a run where the next one belongs": (
        "keeper-0", """INSERT INTO perdure_execution (num, id, run, workflow, status, created_at)
        SELECT 1000, id, 2, workflow, 'completed', 0 FROM perdure_execution WHERE num = :num""",
    ),
    "the last number that there is": (
        "sleeper-0", "UPDATE perdure_event SET n = n | 0xffffff WHERE execution = :num AND seq = 5",
        ASKED.format("'terminate', NULL, NULL, NULL, NULL"),
    ),
    "the last run that there is": (
        "keeper-0", "UPDATE perdure_execution SET run = 9223372036854775807 WHERE num = :num",
    ),
    "a key that is none": ("quick-late0", "UPDATE perdure_execution SET num = 0 WHERE num = :num"),
}  # fmt: skip


@pytest.mark.parametrize("what", PASSED_OVER)
def test_the_others_go_on_and_the_engine_comes_to_rest(base: Base, tmp_path: Path, what: str):
    victim, *statements = PASSED_OVER[what]
    Spoiled(base, tmp_path, victim, *statements).run()


@pytest.mark.parametrize("seed", [524288, 437, 7296342, 17101])
def test_seeds_that_have_found_something_stay_quiet(base: Base, tmp_path: Path, seed: int):
    Round(base, tmp_path, seed).play(look=False)


async def test_an_activity_that_completed_does_not_run_again_when_its_history_has_lost_an_event(tmp_path: Path):
    ran: list[str] = []

    @activity
    async def pay(what: str) -> str:
        ran.append(what)
        return what

    @workflow
    async def job() -> str:
        paid = await pay("rent")
        await Signal("go", str).receive()
        return paid

    database = tmp_path / "gap.db"
    async with Engine(database, [job]) as engine:
        await engine.start(job, id="it")
        await quiet(engine)
    change(database, "it", "UPDATE perdure_event SET n = n + 1 WHERE execution = :num AND seq = 3",
           "UPDATE perdure_event SET n = n + 1 WHERE execution = :num AND seq = 2")  # fmt: skip
    async with Engine(database, [job]) as engine:
        await engine.execution("it").signal("go", "on")
        await quiet(engine)
        assert (await engine.execution("it").info()).status is Status.BLOCKED
    assert ran == ["rent"]


@pytest.mark.parametrize("plain", [False, True])
async def test_an_activity_may_raise_stop_iteration(tmp_path: Path, plain: bool):
    @activity(retry=Retry(attempts=1))
    def last(of: list[int]) -> int:
        return next(iter(of))

    @workflow
    async def job() -> str:
        try:
            await last.submit([])
        except RuntimeError as error:
            return f"caught: {error}"
        return "nothing was raised"

    @workflow
    def plain_job() -> str:
        try:
            last([])
        except RuntimeError as error:
            return f"caught: {error}"
        return "nothing was raised"

    chosen = plain_job if plain else job
    async with Engine(tmp_path / "stop.db", [chosen]) as engine:
        assert "StopIteration" in await (await engine.start(chosen)).result(timeout_s=PATIENCE_S)


async def test_who_waits_for_what_cannot_be_read_is_told_and_who_waits_beside_is_not_forgotten(tmp_path: Path):
    database = tmp_path / "beside.db"
    async with Engine(database, WORKFLOWS) as engine, Client(database) as client:
        for id in ("plain-a", "plain-b"):
            await engine.start(plain, id, id=id)
        await quiet(engine)
        waiting = [asyncio.create_task(client.execution(id).result(PATIENCE_S)) for id in ("plain-a", "plain-b")]
        await asyncio.sleep(0)
        change(database, "plain-a", "INSERT INTO perdure_event (n, kind, at) VALUES (:num << 24 | 90, 99, 0)")
        await engine.execution("plain-b").signal(approved, "yes")
        assert await waiting[1] == "plain-b approved"
        with pytest.raises(DecodeError, match="unknown kind 99"):
            await waiting[0]


def test_a_few_kilobytes_do_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Many events that share one blob hold it once; many blobs that are almost nothing are refused together."""
    monkeypatch.setattr(reader, "LARGEST_HISTORY", 8 * 1024 * 1024)
    database = tmp_path / "bomb.db"
    body = zstandard.ZstdCompressor().compress(b'"' + b"x" * 4_000_000 + b'"')
    asyncio.run(_one_quick(database))
    connection = apsw.Connection(str(database))
    connection.execute("INSERT INTO perdure_blob (digest, refs, body) VALUES (x'00', 1, ?)", (body,))
    connection.execute("UPDATE perdure_event SET data = NULL, blob = x'00'")

    async def history() -> list[Any]:
        async with Client(database) as client:
            return [event async for event in client.execution("it").history()]

    events = asyncio.run(history())
    assert len({id(event.data) for event in events}) == 1
    for number in range(1, 5):
        more = zstandard.ZstdCompressor().compress(b'"' + b"x" * 4_000_000 + b'"%d' % number)
        values = (bytes((number,)), more)
        connection.execute("INSERT INTO perdure_blob (digest, refs, body) VALUES (?, 1, ?)", values)
        connection.execute("UPDATE perdure_event SET blob = ? WHERE seq = ?", (bytes((number,)), number))
    with pytest.raises(DecodeError, match="say more than"):
        asyncio.run(history())
    connection.close()


def test_a_payload_that_was_allowed_is_read_and_a_bomb_is_not():
    bomb = zstandard.ZstdCompressor().compress(bytes(200 * 1024 * 1024))
    with pytest.raises(DecodeError, match="max_payload_bytes"):
        Payloads().load(None, bomb)
    assert len(Payloads(max_bytes=256 * 1024 * 1024).load(None, bomb) or "") == 200 * 1024 * 1024
    honest = msgspec.json.encode([str(n) for n in range(3_000_000)])
    assert len(honest) > Payloads().max_bytes
    assert Payloads().load(None, zstandard.ZstdCompressor().compress(honest)) == honest.decode()


async def _one_quick(database: Path) -> None:
    async with Engine(database, WORKFLOWS) as engine:
        assert await (await engine.start(quick, "it", id="it")).result() == "it"


async def test_the_workload_of_these_tests_comes_to_its_ends_when_nobody_disturbs_it(base: Base, tmp_path: Path):
    """What the rounds expect is what happens without poison."""
    database = Path(shutil.copy(base.path, tmp_path / "undisturbed.db"))
    clock = Clock()
    async with Engine(database, WORKFLOWS, now=clock.now_us, grace_s=0.0) as engine:

        async def tick() -> None:
            while True:
                clock.ahead_us += round(DAY_S / 4 * 1e6)
                engine.doorbell.ring("runner")
                await asyncio.sleep(0.005)

        ticking = asyncio.create_task(tick())
        found = await drive(engine, base.ids, base.path)
        ticking.cancel()
    assert found == {id: expected(id) for id in base.ids}
