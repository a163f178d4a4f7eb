"""Large payloads and encrypted ones, from end to end."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess

import pytest

from perdure import Client, Engine, Retry, Saga, Signal, activity, current_attempt, state, workflow
from perdure.codec.encryption import AesGcmCodec
from perdure.codec.payload import DecodeError
from perdure.errors import PayloadTooLarge, StoreError

note = Signal("note", str)
SECRET = "the-eagle-lands-at-midnight"
BIG = 200_000


def shell(database, sql: str) -> list[str]:
    done = subprocess.run(["sqlite3", str(database), sql], capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@activity
async def repeat(text: str, times: int) -> str:
    return text * times


@workflow
async def echo(text: str) -> str:
    return await repeat(text, 1)


@workflow
async def grow(times: int) -> int:
    return len(await repeat("x", times))


async def test_a_large_payload_comes_back_and_is_stored_once_compressed(database):
    text = "perdure " * (BIG // 8)
    async with Engine(database, workflows=[echo]) as engine:
        assert await (await engine.start(echo, text, id="a")).result() == text
        assert await (await engine.start(echo, text, id="b")).result() == text
    async with Client(database) as client:
        assert await client.execution("a", echo).result() == text
    sizes = shell(database, "SELECT length(body), refs FROM perdure_blob")
    assert sum(int(line.split("|")[0]) for line in sizes) < 10_000
    # twice the input, twice the arguments of the activity, and twice the same result of activity and workflow
    assert sorted(int(line.split("|")[1]) for line in sizes) == [2, 2, 4]
    assert shell(database, "SELECT DISTINCT data FROM history WHERE kind = 'completed'") == ["<large or encrypted>"]


async def test_small_payloads_stay_readable_text(database):
    async with Engine(database, workflows=[echo]) as engine:
        await (await engine.start(echo, "hello", id="a")).result()
    assert shell(database, "SELECT input, result FROM executions") == ['{"text":"hello"}|"hello"']
    assert shell(database, "SELECT count(*) FROM perdure_blob") == ["0"]


async def test_retention_frees_the_blobs_that_nobody_uses_any_more(database):
    text = "x" * BIG
    async with Engine(database, workflows=[echo]) as engine:
        for id in ("a", "b"):
            await (await engine.start(echo, text, id=id)).result()
        assert await engine.gc(keep=1) == 1
        assert engine.store.reader.connection.execute("SELECT count(*) FROM perdure_blob").get == 3
        assert await engine.execution("b", echo).result() == text
        assert await engine.gc(older_than_s=0) == 1
        assert engine.store.reader.connection.execute("SELECT count(*) FROM perdure_blob").get == 0


async def test_large_signals_state_and_heartbeats_come_back(database):
    @activity(retry=Retry(initial_s=0))
    async def beats() -> int:
        attempt = current_attempt()
        if attempt.number == 1:
            attempt.heartbeat("h" * BIG)
            raise ConnectionError
        return len(attempt.last_details)

    @workflow
    async def job() -> list[int]:
        text = await note.receive()
        state["text"] = text
        return [len(text), await beats()]

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job)
        await execution.signal(note, "s" * BIG)
        assert await execution.result() == [BIG, BIG]
        assert await execution.state() == {"text": "s" * BIG}


async def test_a_heartbeat_over_the_limit_is_refused_in_the_activity(database):
    @activity(retry=Retry(attempts=1))
    async def beats() -> None:
        current_attempt().heartbeat("h" * 5_000)

    @workflow
    async def job() -> None:
        await beats()

    async with Engine(database, workflows=[job], max_payload_bytes=4_096) as engine:
        with pytest.raises(PayloadTooLarge):
            await (await engine.start(job)).result(timeout_s=10)


# --- encryption -----------------------------------------------------------------------------------------------------


def codec(byte: int = 1) -> AesGcmCodec:
    return AesGcmCodec({"k": bytes([byte]) * 32}, "k")


class Leak(Exception):
    pass


@activity(retry=Retry(attempts=2, initial_s=0))
async def tell(text: str) -> str:
    current_attempt().heartbeat({"said": text})
    if current_attempt().number == 1:
        raise Leak(text)
    return text


@activity(retry=Retry(attempts=1))
async def fail(text: str) -> None:
    raise Leak(text)


@activity(exec=["sh", "-c", f"echo {SECRET} >&2; echo '\"{SECRET}\"'"])
def program() -> str: ...


@workflow
async def whisper(text: str) -> str:
    await asyncio.sleep(0)
    return text


@workflow
async def secrets(text: str, large: str) -> str:
    state["last"] = text
    async with Saga() as saga:
        saga.add(tell, text)
        await tell(large)
        await program.submit()
        await whisper(text)
        heard = await note.receive()
        with contextlib.suppress(Leak):
            await fail(heard)
        await asyncio.sleep(3600)
    return text


@workflow
async def confesses(text: str) -> None:
    raise Leak(text)


async def test_nothing_of_a_payload_can_be_read_in_the_raw_file(database, until):
    large = (SECRET + " ") * (BIG // len(SECRET))
    async with Engine(database, workflows=[secrets, confesses], codec=codec()) as engine:
        execution = await engine.start(secrets, SECRET, large, id="s")
        await execution.pause(SECRET)
        async with Client(database, codec=codec()) as client:
            await client.execution("s").signal(note, SECRET)
        await execution.resume()
        await until(engine.store.next_due)
        assert await execution.state() == {"last": SECRET}
        with pytest.raises(Leak, match=SECRET):
            await (await engine.start(confesses, SECRET, id="c")).result()
        await execution.cancel(SECRET)
        with pytest.raises(Exception, match=SECRET):
            await execution.result()
        assert SECRET in str([event.data async for event in execution.history()])
        raw = b"".join(path.read_bytes() for path in database.parent.iterdir() if path.is_file())
        assert SECRET.encode() not in raw
        assert b"midnight" not in raw
    raw = b"".join(path.read_bytes() for path in database.parent.iterdir() if path.is_file())
    assert b"midnight" not in raw
    assert not any(SECRET in line for view in VIEWS for line in shell(database, f"SELECT * FROM {view}"))


VIEWS = ("executions", "history", "pending_activities", "timers", "failures")


async def test_encrypted_work_goes_on_after_a_restart(database, until):
    async with Engine(database, workflows=[secrets], codec=codec(), grace_s=0) as engine:
        await engine.start(secrets, "a", "b", id="s")
        await engine.execution("s").signal(note, "c")
        await until(engine.store.next_due)
    async with Engine(database, workflows=[secrets], codec=codec()) as engine:
        await engine.execution("s").cancel()
        with pytest.raises(Exception, match="cancelled"):
            await engine.execution("s").result(timeout_s=10)


async def test_without_the_codec_an_encrypted_file_is_not_opened(database):
    async with Engine(database, workflows=[echo], codec=codec()) as engine:
        await (await engine.start(echo, "sealed", id="a")).result()
    with pytest.raises(StoreError, match="no codec was given") as caught:
        async with Engine(database, workflows=[echo]):
            pass
    assert "codec" in caught.value.hint
    async with Client(database) as client:
        assert (await client.describe("a")).status == "completed", "what is not a payload can be read"
        with pytest.raises(DecodeError):
            await client.execution("a").result()
        with pytest.raises(StoreError, match="no codec was given"):
            await client.start(echo, "plain text", id="b")


@pytest.mark.parametrize("wrong", [codec(2), AesGcmCodec({"other": b"3" * 32}, "other")])
async def test_with_a_wrong_key_nothing_is_lost_and_the_error_says_so(database, wrong, until):
    @workflow
    async def waits(name: str) -> str:
        return name + await note.receive()

    @workflow
    async def done(name: str) -> str:
        return name

    flows = [waits, done]
    async with Engine(database, workflows=flows, codec=codec()) as engine:
        await (await engine.start(done, "ready", id="done")).result()
        await engine.start(waits, "early", id="early")
        await engine.start(waits, "late", id="late")
        await engine.execution("early").signal(note, " bird")
        await engine.execution("early").result()
    async with Client(database, codec=codec()) as client:
        await client.execution("late").signal(note, " owl")  # written while nobody runs
    async with Engine(database, workflows=flows, codec=wrong) as engine:
        with pytest.raises(DecodeError) as caught:
            await engine.execution("done", done).result(timeout_s=5)
        assert caught.value.hint
        fine = await engine.start(done, "new", id="new")
        assert await fine.result(timeout_s=5) == "new", "others go on"
    keys = AesGcmCodec({"k": b"\1" * 32, "other": b"3" * 32}, "k")
    async with Engine(database, workflows=flows, codec=keys) as engine:
        assert await engine.execution("late", waits).result(timeout_s=10) == "late owl"
        assert await engine.execution("done", done).result() == "ready"


async def test_keys_can_be_rotated(database):
    async with Engine(database, workflows=[echo], codec=AesGcmCodec({"old": b"1" * 32}, "old")) as engine:
        await (await engine.start(echo, "first", id="a")).result()
    both = AesGcmCodec({"old": b"1" * 32, "new": b"2" * 32}, "new")
    async with Engine(database, workflows=[echo], codec=both) as engine:
        assert await engine.execution("a", echo).result() == "first"
        assert await (await engine.start(echo, "second", id="b")).result() == "second"


async def test_a_file_that_was_begun_without_encryption_stays_readable_with_it(database):
    async with Engine(database, workflows=[echo]) as engine:
        await (await engine.start(echo, "plain" * BIG, id="a")).result()
    async with Engine(database, workflows=[echo], codec=codec()) as engine:
        assert await engine.execution("a", echo).result() == "plain" * BIG
        assert await (await engine.start(echo, "sealed", id="b")).result() == "sealed"
