"""What a new runner makes of activities that ran, or waited, when the process before it died."""

from __future__ import annotations

from perdure import Client


async def test_a_retry_that_fell_due_after_a_crash_was_not_interrupted(database, spawn, until):
    """Beside it another activity ran when the process died. Only that one was interrupted."""
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, current_attempt, workflow

        @activity(retry=Retry(initial_s=0.3, jitter=False, interruptions=0))
        async def flaky() -> int:
            if current_attempt().number == 1:
                raise ConnectionError
            return current_attempt().number

        @activity
        async def runs() -> int:
            if current_attempt().number == 1:
                await asyncio.sleep(0.1)
                os._exit(9)
            return current_attempt().number

        @workflow
        async def job() -> list[int]:
            return await asyncio.gather(flaky(), runs())

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                execution = await engine.start(job, id="x")
                print(await execution.result(), flush=True)

        asyncio.run(main())
    """
    assert spawn(script, database).wait() == 9
    async with Client(database) as client:
        due = client.store.next_due()
        await until(lambda: client.now() > due)
    output, errors = spawn(script, database).communicate()
    assert output == "[2, 2]\n", errors


async def test_nothing_is_recorded_after_the_end_that_an_interruption_led_to(database, spawn):
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, workflow

        @activity(retry=Retry(interruptions=0))
        async def runs(last: bool) -> None:
            if last:
                os._exit(9)
            await asyncio.Event().wait()

        @workflow
        async def job() -> None:
            await asyncio.gather(*(runs(n == 4) for n in range(5)))

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                execution = await engine.start(job, id="x")
                await execution.result()

        asyncio.run(main())
    """
    assert spawn(script, database).wait() == 9
    assert "AttemptInterrupted" in spawn(script, database).communicate()[1]
    async with Client(database) as client:
        assert [event.kind async for event in client.execution("x").history()][-1] == "failed"
        assert all(ok for _, ok, _ in client.store.check(quick=False))


async def test_what_the_failure_of_an_interrupted_activity_cancels_does_not_come_back(database, spawn):
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, workflow

        running = asyncio.Event()

        @activity(retry=Retry(interruptions=0))
        async def first() -> None:
            running.set()
            await asyncio.Event().wait()

        @activity
        async def second() -> None:
            if sys.argv[2] == "die":
                await running.wait()
                os._exit(9)
            print("ran again", flush=True)

        @activity
        async def clean() -> str:
            return "cleaned"

        @workflow
        async def job() -> str:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(first())
                    group.create_task(second())
            except* Exception:
                pass
            return await clean()

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                execution = await engine.start(job, id="x")
                print(await execution.result(), flush=True)

        asyncio.run(main())
    """
    assert spawn(script, database, "die").wait() == 9
    output, errors = spawn(script, database, "live").communicate()
    assert output == "cleaned\n", errors


async def test_an_activity_that_may_not_be_interrupted_runs_once_after_a_retry_too(database, spawn):
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, workflow
        from perdure.errors import AttemptInterrupted

        @activity(retry=Retry(attempts=1, interruptions=0))
        async def once() -> None:
            print("ran", flush=True)
            if sys.argv[2] == "fails":
                raise ValueError
            os._exit(9)

        @workflow
        async def job() -> None:
            await once()

        async def main():
            async with Engine(sys.argv[1], workflows=[job]) as engine:
                execution = await engine.start(job, id="x")
                if sys.argv[2] == "dies":
                    await execution.retry()
                try:
                    await execution.result()
                except (ValueError, AttemptInterrupted) as error:
                    print(type(error).__name__, flush=True)

        asyncio.run(main())
    """
    said = [spawn(script, database, how).communicate()[0].split() for how in ("fails", "dies", "looks")]
    assert said == [["ran", "ValueError"], ["ran"], ["AttemptInterrupted"]]


async def test_an_attempt_after_one_that_was_stopped_in_order_counts_its_deaths(database, spawn):
    """Found by the model of the runner: the note of the stopped attempt vouched for the next one for ever."""
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, current_attempt, workflow

        running = asyncio.Event()

        @activity(retry=Retry(initial_s=0.001, max_s=0.001, interruptions=2))
        async def kills() -> None:
            print(current_attempt().number, flush=True)
            if sys.argv[2] == "dies":
                os._exit(9)
            running.set()
            await asyncio.Event().wait()

        @workflow
        async def job() -> None:
            await kills()

        async def main():
            async with Engine(sys.argv[1], workflows=[job], grace_s=0) as engine:
                execution = await engine.start(job, id="x")
                if sys.argv[2] == "stops":
                    await running.wait()
                else:
                    await execution.result()

        asyncio.run(main())
    """
    said = [spawn(script, database, how).communicate()[0].split() for how in ("stops", *["dies"] * 4)]
    assert said == [["1"], ["2"], ["3"], ["4"], []]


async def test_an_attempt_after_a_retry_by_hand_counts_its_deaths_and_not_those_before(database, spawn):
    """What the attempts said before the execution failed is no proof that they run after it was opened again."""
    script = """
        import asyncio, os, sys
        from perdure import Engine, Retry, activity, current_attempt, workflow

        beaten = asyncio.Event()
        how = sys.argv[2]

        @activity(retry=Retry(attempts=1))
        async def fails() -> None:
            await beaten.wait()
            raise ValueError

        @activity(retry=Retry(initial_s=0.001, max_s=0.001, interruptions=1))
        async def kills() -> None:
            print(current_attempt().number, flush=True)
            if how != "fails":
                os._exit(9)
            current_attempt().heartbeat("here")
            await asyncio.sleep(0.1)
            beaten.set()
            await asyncio.Event().wait()

        @workflow
        async def job() -> None:
            await asyncio.gather(fails(), kills())

        async def main():
            async with Engine(sys.argv[1], workflows=[job], grace_s=0) as engine:
                execution = await engine.start(job, id="x")
                if how == "retry":
                    await execution.retry()
                try:
                    await asyncio.gather(execution.result())
                except Exception as error:
                    print(type(error).__name__, flush=True)

        asyncio.run(main())
    """
    said = [spawn(script, database, how).communicate()[0].split() for how in ("fails", "retry", "dies", "dies")]
    assert said == [["1", "ValueError"], ["1"], ["2"], ["AttemptInterrupted"]]
