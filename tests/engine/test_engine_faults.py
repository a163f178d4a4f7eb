"""A commit that fails loses nothing that was acknowledged, runs no completed activity again, and stops nobody."""

from __future__ import annotations

import asyncio
import collections
import random

import apsw
import pytest

from perdure import Engine, Retry, Signal, activity, current_attempt, state, workflow
from perdure.errors import ExecutionExists, ExecutionNotFound, InvalidValue, StoreBusy, StoreError, StoreFull
from perdure.events import Event, Kind
from perdure.store import ExecutionRow
from perdure.store.sqlite import SqliteStore

approved = Signal("approved", str)
runs: collections.Counter[str] = collections.Counter()
FAST = Retry(attempts=5, initial_s=0.001, jitter=False)


@pytest.fixture(autouse=True)
def _count_anew():
    runs.clear()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch):
    monkeypatch.setattr("perdure.engine.faults.WAIT_S", (0.001, 0.005))


@pytest.fixture
def fail_commits(monkeypatch):
    """Have commits fail: those whose number (from 1) the given function picks, with the given error."""
    commit = SqliteStore.commit

    def install(picks, error=StoreFull):
        count = 0

        def failing(self, batch):
            nonlocal count
            count += 1
            if picks(count):
                raise error(f"injected into commit {count}")
            commit(self, batch)

        monkeypatch.setattr(SqliteStore, "commit", failing)

    return install


@activity(retry=FAST)
async def step(name: str) -> str:
    runs[name] += 1
    return name


@activity(retry=FAST)
def step_in_thread(name: str) -> str:
    runs[name] += 1
    return name


@activity(retry=FAST)
async def flaky(name: str) -> str:
    runs[name] += 1
    if current_attempt().number < 3:
        raise ConnectionError
    return name


@workflow
async def child(name: str) -> str:
    await asyncio.sleep(0.005)
    return await step(name)


@workflow
async def everything(name: str) -> list[str]:
    state["phase"] = "begun"
    found = [await step(f"{name}-a")]
    found += await asyncio.gather(
        step_in_thread.submit(f"{name}-b"), flaky(f"{name}-c"), child(f"{name}-d"), step(f"{name}-e")
    )
    await asyncio.sleep(0.005)
    found.append(await approved.receive())
    state["phase"] = "ending"
    try:
        async with asyncio.timeout(0.005):
            await asyncio.Event().wait()
    except TimeoutError:
        found.append(await step(f"{name}-f"))
    return found


def expected(name: str) -> list[str]:
    return [f"{name}-{part}" for part in "abcde"] + ["yes", f"{name}-f"]


def expected_runs(name: str) -> dict[str, int]:
    return {f"{name}-{part}": 3 if part == "c" else 1 for part in "abcdef"}


async def insistently(act):
    """Do what a caller does who was told that it did not work."""
    while True:
        try:
            return await act()
        except StoreError:
            await asyncio.sleep(0.002)


@pytest.mark.parametrize("error", [StoreFull, StoreBusy, StoreError])
@pytest.mark.parametrize("length", [1, 3])
@pytest.mark.parametrize("at", range(1, 20, 3))
async def test_whichever_commit_fails_everything_happens_once(database, fail_commits, at, length, error):
    async with Engine(database, workflows=[everything]) as engine:
        fail_commits(lambda n: at <= n < at + length, error)
        execution = await insistently(lambda: engine.start(everything, "x", id="x"))
        await insistently(lambda: execution.signal(approved, "yes"))
        assert await execution.result(timeout_s=20) == expected("x")
        assert await execution.state() == {"phase": "ending"}
        seqs = [event.seq async for event in execution.history()]
        assert seqs == list(range(1, len(seqs) + 1))
        assert engine.store.next_due() is None
    assert runs == expected_runs("x")


async def test_many_executions_end_right_while_commits_fail_at_random(database, fail_commits):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    draw = random.Random(seed)
    names = [f"x{n}" for n in range(25)]
    async with Engine(database, workflows=[everything], hot=5) as engine:
        fail_commits(lambda n: draw.random() < 0.3)

        async def drive(name: str) -> list[str]:
            execution = await insistently(lambda: engine.start(everything, name, id=name))
            await insistently(lambda: execution.signal(approved, "yes"))
            return await execution.result(timeout_s=60)

        assert await asyncio.gather(*(drive(name) for name in names)) == [expected(name) for name in names]
        assert all(found for _, found, _ in engine.store.check(quick=False))
    assert runs == {key: count for name in names for key, count in expected_runs(name).items()}


async def test_who_was_refused_was_not_heard(database, fail_commits):
    async with Engine(database, workflows=[everything]) as engine:
        execution = await engine.start(everything, "x", id="x")
        failing = True
        fail_commits(lambda n: failing)
        with pytest.raises(StoreFull, match="injected"):
            await engine.start(everything, "y", id="y")
        with pytest.raises(StoreFull, match="injected"):
            await execution.signal(approved, "lost")
        with pytest.raises(StoreFull, match="injected"):
            await execution.cancel()
        failing = False
        with pytest.raises(ExecutionNotFound):
            await engine.describe("y")
        await insistently(lambda: execution.signal(approved, "yes"))
        assert await execution.result(timeout_s=20) == expected("x")
    assert runs == expected_runs("x")


async def test_while_nothing_can_be_written_results_wait_and_then_go_on(database, fail_commits, until):
    done = asyncio.Event()

    @activity
    async def work() -> str:
        runs["work"] += 1
        await done.wait()
        return "done"

    @workflow
    async def job() -> str:
        return await work()

    failing = False
    fail_commits(lambda n: failing)
    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        await until(lambda: runs["work"])
        failing = True
        done.set()
        await until(lambda: engine._runner.faults.count > 3)
        failing = False
        assert await execution.result(timeout_s=20) == "done"
    assert runs["work"] == 1


async def test_a_cancel_that_reached_a_running_activity_only_in_memory_did_not_reach_it(database, fail_commits, until):
    """The commit with the cancel fails, so the activity goes on; and it still obeys a later one and its time limit."""
    seen = []

    @activity(retry=Retry(attempts=1), timeout_s=60)
    async def work() -> str:
        runs["work"] += 1
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise
        return ""

    @workflow
    async def job() -> None:
        await work()

    failing = False
    fail_commits(lambda n: failing)
    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        await until(lambda: runs["work"])
        failing = True
        with pytest.raises(StoreFull):
            await execution.cancel()
        failing = False
        await until(lambda: not engine._runner.faults.count)
        assert seen == []
        await execution.cancel()
        with pytest.raises(Exception, match="cancelled"):
            await execution.result(timeout_s=20)
        await until(lambda: seen)
    assert runs["work"] == 1


async def test_a_disk_that_is_really_full_and_then_has_room(database, until):
    @activity
    async def big(n: int) -> str:
        runs[f"big{n}"] += 1
        return random.Random(n).randbytes(30_000).hex()

    @workflow
    async def job() -> int:
        return sum([len(await big(n)) for n in range(20)])

    async with Engine(database, workflows=[job]) as engine:
        connection = engine._runner_store.writer.connection
        connection.pragma("max_page_count", connection.pragma("page_count") + 100)
        execution = await engine.start(job, id="x")
        await until(lambda: engine._runner.faults.count > 2)
        connection.pragma("max_page_count", 1_000_000)
        assert await execution.result(timeout_s=20) == 20 * 60_000
    assert set(runs.values()) == {1}


async def test_another_program_that_holds_the_write_lock_only_delays(database, monkeypatch, until):
    monkeypatch.setattr("perdure.store.sqlite.connection.BUSY_S", 0.05)
    async with Engine(database, workflows=[everything]) as engine:
        execution = await engine.start(everything, "x", id="x")
        other = apsw.Connection(str(database))
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreBusy, match="write lock"):
            await execution.signal(approved, "yes")
        other.execute("COMMIT")
        await insistently(lambda: execution.signal(approved, "yes"))
        assert await execution.result(timeout_s=20) == expected("x")
        other.close()
    assert runs == expected_runs("x")


async def test_a_retry_whose_start_could_not_be_written_is_not_forgotten(database, fail_commits):
    failing = False

    @activity(retry=FAST)
    async def work() -> int:
        nonlocal failing
        failing = True  # from here on nothing is written until the retry has come due and gone
        runs["work"] += 1
        if current_attempt().number == 1:
            raise ConnectionError
        return current_attempt().number

    @workflow
    async def job() -> int:
        return await work()

    count = 0

    def pick(n: int) -> bool:
        nonlocal count
        count += failing
        return failing and count % 3 != 0

    async with Engine(database, workflows=[job]) as engine:
        fail_commits(pick)
        assert await (await insistently(lambda: engine.start(job, id="x"))).result(timeout_s=20) == 2
    assert runs["work"] == 2


async def test_closing_while_nothing_can_be_written_leaves_the_rest_to_the_next_engine(database, fail_commits, until):
    @activity(retry=FAST)
    async def work() -> str:
        runs["work"] += 1
        return "done"

    @workflow
    async def job() -> str:
        await asyncio.sleep(0.02)
        return await work()

    failing = False
    fail_commits(lambda n: failing)
    async with Engine(database, workflows=[job], grace_s=0) as engine:
        await engine.start(job, id="x")
        failing = True
        await until(lambda: engine._runner.faults.count)
    failing = False
    async with Engine(database, workflows=[job]) as engine:
        assert await engine.execution("x", job).result(timeout_s=20) == "done"


@workflow
async def waits() -> str:
    return await approved.receive()


@workflow
async def shields() -> str:
    return await asyncio.shield(waits.options(id="child", on_parent_end="abandon").submit())


async def test_a_parent_whose_end_could_not_be_written_still_hears_of_its_child(database, fail_commits):
    failing = False
    fail_commits(lambda n: failing)
    async with Engine(database, workflows=[shields]) as engine:
        mother = await engine.start(shields, id="mother")
        failing = True
        with pytest.raises(StoreFull):
            await mother.cancel()
        failing = False
        await insistently(lambda: engine.execution("child").signal(approved, "yes"))
        assert await mother.result(timeout_s=10) == "yes"


@workflow
async def short(n: int) -> int:
    await asyncio.sleep(0.001)
    return n


async def test_an_id_that_another_process_takes_between_our_look_and_our_commit_is_joined(database, monkeypatch):
    commit, other = SqliteStore.commit, SqliteStore(database)

    def slow(self, batch):
        for row in batch.executions:
            if row.id == "taken" and other.find("taken") is None:
                event = Event(1, Kind.STARTED, row.created_at, None, "short", '{"n":1}')
                other.create([(ExecutionRow("taken", "short", row.created_at), [event])])
        commit(self, batch)

    monkeypatch.setattr(SqliteStore, "commit", slow)
    async with Engine(database, workflows=[short]) as engine:
        started = await asyncio.gather(*(engine.start(short, n, id=id) for n, id in ((0, "a"), (1, "taken"), (2, "b"))))
        assert await asyncio.gather(*(execution.result(timeout_s=20) for execution in started)) == [0, 1, 2]
        with pytest.raises(ExecutionExists):
            await engine.start(short, 7, id="taken")
    other.close()


async def test_an_execution_that_breaks_the_commit_is_set_aside_and_nobody_else_is_told(database, monkeypatch, until):
    commit = SqliteStore.commit

    def breaking(self, batch):
        if any(row.id == "bad" and event.kind is Kind.SIGNAL_RECEIVED for row, event in batch.events):
            raise OverflowError("injected: secret")
        commit(self, batch)

    @workflow
    async def told() -> str:
        return await approved.receive()

    monkeypatch.setattr(SqliteStore, "commit", breaking)
    async with Engine(database, workflows=[short, told]) as engine:
        bad, good = await engine.start(told, id="bad"), await engine.start(told, id="good")
        results = await asyncio.gather(
            good.signal(approved, "yes"),
            bad.signal(approved, "yes"),
            engine.start(short, 1, id="other"),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [type(None), OverflowError, type(good)]
        assert await good.result(timeout_s=20) == "yes"
        assert await engine.execution("other").result(timeout_s=20) == 1
        await until(lambda: engine.store.find("bad").problem)
        assert "OverflowError" in engine.store.find("bad").problem
        assert (await engine.start(short, 2)).id


async def test_names_that_no_file_can_hold_and_limits_beyond_all_time_stop_nobody(database):
    @workflow
    async def keeps() -> None:
        state[chr(0xDC80)] = 1

    async with Engine(database, workflows=[short, keeps]) as engine:
        for id in "\ud800", "a\x00b":
            with pytest.raises(InvalidValue):
                await engine.start(short, 1, id=id)
        with pytest.raises(InvalidValue):
            await (await engine.start(short, 1)).signal("\ud800", 1)
        for limit in 1e13, float("inf"):
            assert await (await engine.start(short, 1, timeout_s=limit)).result(timeout_s=20) == 1
        with pytest.raises(InvalidValue, match="a name in keeps"):
            await (await engine.start(keeps)).result(timeout_s=20)
