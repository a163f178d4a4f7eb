"""What an activity's next attempt still has after its process died or was closed."""

from __future__ import annotations

import signal

import pytest

from perdure import Client, Engine, Retry, activity, current_attempt, workflow
from perdure.errors import AttemptInterrupted

BACKOFF = """
    import asyncio, sys
    from perdure import Engine, Retry, activity, current_attempt, workflow

    @activity(retry=Retry(attempts=None, initial_s=0.4, multiplier=2, max_s=100, jitter=False))
    async def broken() -> None:
        print("attempt", current_attempt().number, flush=True)
        raise ConnectionError(f"try {current_attempt().number}")

    @workflow
    async def job() -> None:
        await broken()

    async def main():
        async with Engine(sys.argv[1], workflows=[job]) as engine:
            execution = await engine.start(job, id="x")
            print("up", flush=True)
            await execution.result()

    asyncio.run(main())
"""


def read_until(process, text):
    lines = []
    for line in process.stdout:
        lines.append(line.strip())
        if text in line:
            return lines
    raise AssertionError(f"{text!r} never came: {lines} {process.stderr.read()}")


async def test_number_and_backoff_go_on_after_a_kill_between_attempts(database, spawn, failed_attempts):
    for goal in (2, 3):
        process = spawn(BACKOFF, database)
        read_until(process, f"attempt {goal}")
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = spawn(BACKOFF, database)
    read_until(process, "attempt 4")
    process.kill()
    process.wait()
    async with Client(database) as client:
        execution = client.execution("x")
        notes = await failed_attempts(execution)
        errors = [note for note in notes if note["reason"] == "error"]
        assert [note["wait_s"] for note in errors] == pytest.approx([0.4 * 2**i for i in range(len(errors))], abs=1e-5)
        numbers = [note["attempt"] for note in notes]
        assert numbers == list(range(1, len(notes) + 1)), "no number is given twice"


async def test_a_retry_that_fell_due_while_no_engine_ran_starts_at_once(database, spawn, until):
    process = spawn(BACKOFF, database)
    read_until(process, "attempt 1")
    async with Client(database) as client:
        due = await until(client.store.next_due)
        process.kill()
        process.wait()
        await until(lambda: client.now() > due)
    assert "attempt 2" in read_until(spawn(BACKOFF, database), "attempt 2")[0]


HEARTBEAT = """
    import asyncio, sys
    from perdure import Engine, Retry, activity, current_attempt, workflow

    @activity(retry=Retry(initial_s=0))
    async def copy() -> str:
        attempt = current_attempt()
        if attempt.number == 1:
            attempt.heartbeat({"row": 41})
            attempt.heartbeat({"row": 42})
            print("beat", flush=True)
            await asyncio.Event().wait()
        return f"{attempt.number} from {attempt.last_details}"

    @workflow
    async def job() -> str:
        return await copy()

    async def main():
        async with Engine(sys.argv[1], workflows=[job]) as engine:
            execution = await engine.start(job, id="x")
            print(await execution.result(), flush=True)

    asyncio.run(main())
"""


async def test_the_last_heartbeat_survives_a_kill(database, spawn, until):
    process = spawn(HEARTBEAT, database)
    read_until(process, "beat")
    async with Client(database) as client:
        await until(lambda: client.store.heartbeat(1, 2))
    process.kill()
    process.wait()
    again = spawn(HEARTBEAT, database)
    assert "2 from {'row': 42}" in read_until(again, "from")


async def test_an_error_passes_the_heartbeat_on_and_the_end_forgets_it(database):
    seen = []

    @activity(retry=Retry(initial_s=0))
    def copy() -> None:
        attempt = current_attempt()
        seen.append(attempt.last_details)
        if attempt.number == 1:
            attempt.heartbeat({"row": 1})
            raise ConnectionError
        if attempt.number == 2:
            raise ConnectionError  # without a heartbeat of its own: the details of before stay

    @workflow
    async def job() -> None:
        await copy.submit()

    async with Engine(database, workflows=[job]) as engine:
        await (await engine.start(job)).result()
        assert engine.store.heartbeat(1, 2) is None
    assert seen == [None, {"row": 1}, {"row": 1}]


async def test_an_interrupted_attempt_does_not_count_as_a_failed_one(database, spawn, failed_attempts):
    process = spawn(HEARTBEAT, database)
    read_until(process, "beat")
    process.kill()
    process.wait()

    @activity(retry=Retry(attempts=1))
    async def copy() -> int:
        return current_attempt().number

    @workflow
    async def job() -> int:
        return await copy()

    async with Engine(database, workflows=[job]) as engine:
        execution = engine.execution("x", job)
        assert await execution.result() == 2
        (note,) = await failed_attempts(execution)
        assert (note["reason"], note["attempt"]) == ("interrupted", 1)


async def test_interruptions_of_zero_is_at_most_once(database, spawn):
    process = spawn(HEARTBEAT.replace("initial_s=0", "interruptions=0"), database)
    read_until(process, "beat")
    process.kill()
    process.wait()
    ran = []

    @activity(retry=Retry(interruptions=0))
    async def copy() -> None:
        ran.append(1)

    @workflow
    async def job() -> None:
        await copy()

    async with Engine(database, workflows=[job]) as engine:
        with pytest.raises(AttemptInterrupted, match="the process died 1 time"):
            await engine.execution("x", job).result()
    assert ran == []


async def test_a_due_timer_at_recovery_does_not_keep_the_activity_beside_it_from_starting_again(database, spawn, until):
    script = """
        import asyncio, sys
        from perdure import Engine, activity, current_attempt, workflow

        @activity
        async def slow() -> int:
            if current_attempt().number == 1:
                print("started", flush=True)
                await asyncio.Event().wait()
            return current_attempt().number

        @workflow
        async def job() -> list[int]:
            async def nap() -> int:
                await asyncio.sleep(0.2)
                return 0
            return await asyncio.gather(nap(), slow())

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                execution = await engine.start(job, id="x")
                print(await execution.result(), flush=True)

        asyncio.run(main())
    """
    process = spawn(script, database)
    read_until(process, "started")
    process.kill()
    process.wait()
    async with Client(database) as client:  # open until the nap's timer is due
        due = client.store.next_due()
        await until(lambda: client.now() > due)
    assert read_until(spawn(script, database), "2")[-1] == "[0, 2]"


async def test_what_waited_for_a_place_when_the_process_died_was_not_interrupted(database, spawn):
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, current_attempt, workflow

        @activity(retry=Retry(initial_s=0))
        async def deadly() -> int:
            if current_attempt().number < 6:
                os._exit(9)
            return current_attempt().number

        @activity(retry=Retry(initial_s=0, interruptions=2))
        async def patient() -> int:
            return current_attempt().number

        @workflow
        async def job() -> list[int]:
            return await asyncio.gather(deadly(), patient())

        async def main():
            async with Engine(sys.argv[1], workflows=[job], max_async=1) as engine:
                execution = await engine.start(job, id="x")
                print(await execution.result(), flush=True)

        asyncio.run(main())
    """
    for _ in range(5):
        assert spawn(script, database).wait() == 9
    output, errors = spawn(script, database).communicate()
    # the first crash counts for both: until then no start is in the file
    assert output == "[6, 2]\n", errors
