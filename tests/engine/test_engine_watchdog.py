"""User code that blocks the engine's loop: it is named, and the others go on meanwhile."""

from __future__ import annotations

import asyncio
import logging
import threading
import time

import apsw

from perdure import Engine, Signal, activity, sleep, workflow

go = Signal("go", str)
PATIENCE_S = 20.0


def wait_blocking(condition) -> bool:
    """Block this thread, as bad user code does, until the condition holds or patience ends."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        threading.Event().wait(0.01)
    return True


def status(database, id: str) -> str | None:
    # apsw and not sqlite3: two copies of SQLite in one process break each other's file locks
    connection = apsw.Connection(str(database), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        return connection.execute("SELECT status FROM executions WHERE id = ?", (id,)).get
    finally:
        connection.close()


@workflow
async def naps() -> str:
    await asyncio.sleep(0.05)
    return "woke"


@workflow
def naps_plainly() -> str:
    sleep(0.05)
    return "woke"


@workflow
async def mother() -> str:
    return await naps()


@workflow
def plain_mother() -> str:
    return naps.submit().result()


async def test_a_blocking_activity_is_named_in_a_warning(database, caplog):
    @activity
    async def hog() -> None:
        wait_blocking(lambda: "activity hog" in caplog.text)

    @workflow
    async def job() -> None:
        await hog()

    with caplog.at_level(logging.WARNING, "perdure.watchdog"):
        async with Engine(database, workflows=[job]) as engine:
            await (await engine.start(job, id="the-job")).result()
    assert "activity hog of execution the-job blocks it" in caplog.text
    assert "test_engine_watchdog.py" in caplog.text


async def test_timers_and_children_of_others_go_on_while_an_activity_blocks(database):
    seen = {}

    @activity
    async def hog() -> None:
        for id in ("nap", "mother"):
            seen[id] = wait_blocking(lambda id=id: status(database, id) == "completed")

    @workflow
    async def job() -> None:
        await hog()

    async with Engine(database, workflows=[job, naps, mother]) as engine:
        nap = await engine.start(naps, id="nap")
        child = await engine.start(mother, id="mother")
        await (await engine.start(job)).result()
        assert (await nap.result(), await child.result()) == ("woke", "woke")
    assert seen == {"nap": True, "mother": True}


async def test_def_activities_end_and_def_workflows_wait_while_an_activity_blocks(database):
    """A `def` workflow's code belongs to the loop's thread. Its timer and its child's end must not be lost."""
    seen = {}

    @activity
    def work() -> str:
        return "worked"

    @workflow
    async def works() -> str:
        await asyncio.sleep(0.05)
        return await work.submit()

    @activity
    async def hog() -> None:
        seen["nap"] = wait_blocking(lambda: status(database, "plain-mother/naps-2") == "completed")
        seen["plain"] = status(database, "plain")

    @workflow
    async def job() -> None:
        await hog()

    async with Engine(database, workflows=[job, naps, works, naps_plainly, plain_mother]) as engine:
        others = [
            await engine.start(naps_plainly, id="plain"),
            await engine.start(plain_mother, id="plain-mother"),
            await engine.start(works, id="works"),
        ]
        await (await engine.start(job)).result()
        assert [await other.result(timeout_s=10) for other in others] == ["woke", "woke", "worked"]
    assert seen == {"nap": True, "plain": "waiting"}


async def test_the_runner_stays_the_owner_while_an_activity_blocks(database, spawn):
    standby = spawn(
        """
        import asyncio, sys
        from perdure import Engine, workflow

        @workflow
        async def naps() -> str:
            return "other"

        async def main():
            async with Engine(sys.argv[1], workflows=[naps]) as engine:
                print(engine.leading, flush=True)
                sys.stdin.readline()
                print(engine.leading, flush=True)

        asyncio.run(main())
        """,
        database,
    )
    lines = []

    @activity
    async def hog() -> None:
        lines.append(standby.stdout.readline())  # blocks until the other has opened the file
        wait_blocking(lambda: status(database, "nap") == "completed")
        standby.stdin.write("now\n")
        standby.stdin.flush()
        lines.append(standby.stdout.readline())

    @workflow
    async def job() -> None:
        await hog()

    async with Engine(database, workflows=[job, naps]) as engine:
        await engine.start(naps, id="nap")
        await (await engine.start(job)).result()
        assert engine.leading
    assert lines == ["False\n", "False\n"]
