"""One Litestream is kept running: started, restarted, ended; never two on one file; no secret that others can see."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from servers import KEY, SECRET, S3Server, black_hole, tool
from streaming import FAST, Book, alive, fetch, numbers, streaming, supervisor, uploaded

from perdure.replication import childlock, litestream
from perdure.replication import supervisor as module
from perdure.replication.childlock import AnotherLitestream
from perdure.replication.control import ControlError
from perdure.replication.litestream import LitestreamMissing, Settings
from perdure.replication.target import Target

Until = Callable[..., Any]
OWNER = """
import asyncio, os, sys
from pathlib import Path
from perdure.replication import litestream
from streaming import Book, supervisor, uploaded
from perdure.replication.target import Target

async def main():
    book = Book(Path(sys.argv[1]))
    book.add()
    made = supervisor(book, Target.parse(sys.argv[2]))
    await made.start()
    await made.ready()
    await uploaded(made, book.path)
    print(made.pid, flush=True)
    await asyncio.to_thread(sys.stdin.readline)
    print(book.add(300), flush=True)
    await asyncio.sleep(600)

sys.path.insert(0, sys.argv[3])
if "ORPHAN" in os.environ:  # as on a system that does not end the child
    litestream.end_with_parent = lambda number: None
asyncio.run(main())
"""


@pytest.fixture
def target(rclone: S3Server, bucket_name: str) -> Target:
    tool("litestream")
    return Target.parse(rclone.url(bucket_name, "book"))


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    made = Book(tmp_path / "book.db")
    yield made
    made.close()


@pytest.fixture
def owner(book: Book, target: Target, spawn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Start a process that streams the book; give it and its child's process id."""
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([here, *sys.path]))

    def start() -> tuple[Any, int]:
        process = spawn(OWNER, book.path, target.url, here)
        said = process.stdout.readline()
        assert said, process.stderr.read()
        return process, int(said)

    return start


async def test_it_streams_and_stops_after_a_last_upload(book: Book, target: Target, tmp_path: Path) -> None:
    made = supervisor(book, target)
    await made.start()
    await made.ready()
    await uploaded(made, book.path)
    pid = made.pid
    book.add(200)
    assert await made.stop()
    assert not alive(pid)
    assert made.pid is None
    assert fetch(target, tmp_path) == list(range(200))
    with pytest.raises(ControlError, match="not running"):
        _ = made.control


async def test_one_that_has_only_just_begun_uploads_all_the_same(book: Book, target: Target, tmp_path: Path) -> None:
    """Litestream opens a file when it first looks at it; told to stop before, it ends well and has uploaded nothing."""
    book.add(3)
    async with streaming(book, target) as made:
        assert await made.stop()
    assert fetch(target, tmp_path) == [0, 1, 2]


async def test_a_killed_child_is_replaced_and_nothing_is_missing(
    book: Book, target: Target, tmp_path: Path, until: Until
) -> None:
    ready: list[int | None] = []
    made = supervisor(book, target)
    made.on_ready = lambda: ready.append(made.pid)
    await made.start()
    await made.ready()
    for round_ in range(3):
        book.add(10)
        killed = made.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await until(lambda killed=killed: made.pid != killed)
        book.add(10)
        await until(lambda round_=round_: len(ready) == round_ + 2, 60.0)
        assert made.problem is None
    await uploaded(made, book.path)
    assert (made.restarts, len(set(ready))) == (3, 4)
    assert await made.stop()
    assert fetch(target, tmp_path) == list(range(60))


async def test_its_log_is_emptied_before_every_start(book: Book, target: Target, until: Until) -> None:
    """Trap 1: one that begins anew must begin with all of the file."""
    emptied: list[tuple[int | None, int]] = []
    made = supervisor(book, target)

    def checkpoint() -> None:
        book.checkpoint()
        emptied.append((made.pid, book.log_bytes()))

    made.checkpoint = checkpoint
    book.add(10)
    await made.start()
    await made.ready()
    assert emptied == [(None, 0)]
    book.add(10)
    os.kill(made.pid or 0, signal.SIGKILL)
    await until(lambda: len(emptied) == 2)
    assert emptied == [(None, 0)] * 2
    await made.stop(upload=False)


async def test_while_the_log_cannot_be_emptied_it_is_not_started(book: Book, target: Target, until: Until) -> None:
    made = supervisor(book, target)
    book.add(10)
    reader = Book(book.path)
    reader.connection.execute("BEGIN")
    reader.connection.execute("SELECT * FROM line").fetchall()
    book.add(1)
    await made.start()
    await until(lambda: made.restarts >= 2)
    assert made.pid is None
    assert "read" in (made.problem or "")
    reader.connection.execute("COMMIT")
    await asyncio.wait_for(made.ready(), 60.0)
    reader.close()
    await made.stop(upload=False)


async def test_each_death_in_a_row_is_waited_for_longer(
    book: Book, target: Target, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def noted(delay: float, *more: Any) -> Any:
        if delay in module.BACKOFF_S:
            pauses.append(delay)
            delay = 0
        return await sleep(delay, *more)

    monkeypatch.setattr(litestream, "find", lambda: Path("/bin/false"))
    made = supervisor(book, target)
    with monkeypatch.context() as patched:
        patched.setattr(module.asyncio, "sleep", noted)
        await made.start()
        await until(lambda: made.restarts > 9)
        assert await made.stop() is False
    assert tuple(pauses[: len(module.BACKOFF_S)]) == module.BACKOFF_S
    assert set(pauses[len(module.BACKOFF_S) :]) == {module.BACKOFF_S[-1]}
    assert made.problem is not None


async def test_one_that_hangs_is_replaced(
    book: Book, target: Target, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEALTH_EVERY_S", 0.05)
    monkeypatch.setattr("perdure.replication.control.TIMEOUT_S", 0.2)
    monkeypatch.setattr("perdure.replication.control.Control.__init__.__defaults__", (0.2,))
    async with streaming(book, target) as made:
        hung = made.pid
        assert hung is not None
        os.kill(hung, signal.SIGSTOP)
        await until(lambda: made.pid not in (hung, None), 60.0)
        assert not alive(hung)


async def test_one_that_is_nudged_begins_anew_without_a_pause(book: Book, target: Target, tmp_path: Path) -> None:
    async with streaming(book, target) as made:
        book.add(10)
        await uploaded(made, book.path)
        before = made.pid
        made.on_ready = (again := asyncio.Event()).set
        made.nudge()
        await asyncio.wait_for(again.wait(), 60.0)
        assert made.pid != before
        assert made.restarts == 1
        assert await made.stop()
        assert fetch(target, tmp_path) == list(range(10))


async def test_one_that_rests_is_started_again_only_when_it_is_wanted(
    book: Book, target: Target, tmp_path: Path, until: Until
) -> None:
    async with streaming(book, target) as made:
        for again in (made.nudge, None):
            book.add(10)
            made.rest()
            await until(lambda: made.pid is None and "rests" in (made.problem or ""))
            book.checkpoint()
            book.add(10)
            if again is not None:
                made.on_ready = (ready := asyncio.Event()).set
                again()
                await asyncio.wait_for(ready.wait(), 60.0)
                assert made.problem is None
        assert await made.stop()
    assert fetch(target, tmp_path) == list(range(40))


async def test_a_second_supervisor_is_refused_and_harms_nothing(
    book: Book, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 4: two Litestreams on one local file lose rows without a word."""
    monkeypatch.setattr(childlock, "PATIENCE_S", 0.3)
    async with streaming(book, target) as first:
        pid = first.pid
        with pytest.raises(AnotherLitestream, match=str(pid)):
            await supervisor(book, target).start()
        assert (first.pid, first.restarts) == (pid, 0)


async def test_one_in_another_process_is_left_alone_while_its_parent_lives(
    book: Book, target: Target, owner: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(childlock, "PATIENCE_S", 0.3)
    process, child = await asyncio.to_thread(owner)
    with pytest.raises(AnotherLitestream):
        await supervisor(book, target).start()
    assert alive(child)
    assert process.poll() is None


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells it elsewhere")
async def test_it_ends_with_its_parent(
    owner: Callable[[], Any], book: Book, target: Target, until: Until, tmp_path: Path
) -> None:
    process, child = await asyncio.to_thread(owner)
    process.stdin.write("\n")
    process.stdin.flush()
    assert await asyncio.to_thread(process.stdout.readline) == "301\n"
    process.kill()
    await until(lambda: not alive(child))
    found = fetch(target, tmp_path)  # it may upload the rest before, or be too late for that
    assert found == list(range(len(found)))


@pytest.mark.skipif(sys.platform != "linux", reason="nobody tells it elsewhere")
async def test_a_commit_that_was_cut_in_the_middle_does_not_spoil_the_replica(tmp_path: Path, until: Until) -> None:
    """Litestream reads it in the log, where it is before SQLite has made it true. With its parent dead it never becomes
    so. Litestream must not go on then: what it uploaded next would be made of a state without it."""
    tool("litestream")
    target = Target.parse(f"file://{tmp_path}/replica")
    script, book = Path(__file__).with_name("half_commit.py"), tmp_path / "book.db"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(script.parent), *sys.path])}
    process = await asyncio.create_subprocess_exec(
        sys.executable, script, book, target.url, stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        assert process.stdout is not None
        child = int(await process.stdout.readline())
        before = files(target)
        assert await process.stdout.readline() == b"half\n"
        await until(lambda: files(target) - before, 60.0)
    finally:
        process.kill()
        await process.wait()
    await until(lambda: not alive(child), 60.0)
    assert fetch(target, tmp_path) in ([*range(1_500)], [*range(1_800)])


def files(target: Target) -> set[str]:
    return {path.name for path in Path(target.prefix, "ltx", "0").glob("*.ltx")}


async def test_one_that_outlived_its_parent_is_ended_first(
    book: Book, target: Target, owner: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Trap 4, after a crash: the orphan goes on uploading what it sees."""
    monkeypatch.setattr(childlock, "PATIENCE_S", 10.0)
    monkeypatch.setenv("ORPHAN", "1")
    process, child = await asyncio.to_thread(owner)
    process.kill()
    process.wait()
    assert alive(child)
    book.written = len(numbers(book.path))
    async with streaming(book, target) as made:
        assert not alive(child)
        book.add(5)
        assert await made.stop()
    assert fetch(target, tmp_path) == list(range(6))


async def test_a_process_that_only_has_the_number_of_a_child_is_not_ended(
    book: Book, target: Target, spawn: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the lock says may come from another container, or from before a restart."""
    monkeypatch.setattr(childlock, "PATIENCE_S", 0.2)
    stranger = spawn("import sys; sys.stdin.read()")
    holder = childlock.ChildLock(book.path.with_name(book.path.name + "-litestream-lock"))
    await holder.take()
    holder.path.write_text(f"{stranger.pid} 1")
    with pytest.raises(AnotherLitestream):
        await supervisor(book, target).start()
    assert stranger.poll() is None
    holder.release()


async def test_what_others_can_see_has_no_secret(book: Book, target: Target) -> None:
    async with streaming(book, target) as made:
        assert made._folder is not None
        configuration = made._folder / "litestream.yml"
        command = Path(f"/proc/{made.pid}/cmdline").read_text() if sys.platform == "linux" else ""
        for text in (configuration.read_text(), command):
            assert SECRET not in text
            assert KEY not in text
        assert stat.S_IMODE(made._folder.stat().st_mode) == 0o700
        assert stat.S_IMODE(configuration.stat().st_mode) == 0o600
        assert stat.S_IMODE((made._folder / "s").stat().st_mode) == 0o600
        folder = made._folder
        await made.stop()
        assert not folder.exists()


async def test_it_starts_where_aws_ca_bundle_is_set(
    book: Book, target: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trap 5: with that variable in its environment Litestream ends at once."""
    bundle = tmp_path / "ca.pem"
    bundle.write_text("")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    monkeypatch.setenv("LITESTREAM_ACCESS_KEY_ID", "somebody-else")
    given = litestream.environment({})
    assert "AWS_CA_BUNDLE" not in given
    assert given["SSL_CERT_FILE"] == str(bundle)
    async with streaming(book, target) as made:
        book.add(3)
        await uploaded(made, book.path)
        assert made.restarts == 0


async def test_it_leaves_a_cpu_to_us(book: Book, target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    cpus = max(len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1, 2)
    assert litestream.beside_us({}) == {"GOMAXPROCS": str(cpus - 1)}
    assert litestream.beside_us({"GOMAXPROCS": "7"}) == {"GOMAXPROCS": "7"}  # what the user says counts
    if sys.platform == "linux":
        monkeypatch.delenv("GOMAXPROCS", raising=False)
        async with streaming(book, target) as made:
            assert f"GOMAXPROCS={cpus - 1}\0" in Path(f"/proc/{made.pid}/environ").read_text()


async def test_an_upload_that_did_not_end_in_time_is_told(book: Book, tmp_path: Path) -> None:
    """Litestream itself ends with exit code 0 then."""
    with black_hole() as endpoint:
        target = Target.parse(f"s3://nowhere/book?endpoint={endpoint}&region=us-east-1")
        async with streaming(book, target, settings=Settings(interval_s=0.1, final_sync_s=0.5)) as made:
            book.add(3)
            assert await made.stop() is False


async def test_a_bucket_that_is_away_does_not_keep_it_from_starting(book: Book, until: Until) -> None:
    with black_hole() as endpoint:
        target = Target.parse(f"s3://nowhere/book?endpoint={endpoint}&region=us-east-1")
        async with streaming(book, target) as made:
            assert made.problem is None
            assert list(await asyncio.to_thread(made.control.databases)) == [str(book.path)]


async def test_without_the_program_the_hint_says_how_to_get_it(
    book: Book, target: Target, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(LitestreamMissing) as raised:
        await supervisor(book, target).start()
    assert "perdure[litestream]" in raised.value.hint


async def test_the_log_is_read_whatever_is_in_it(book: Book, target: Target, until: Until, tmp_path: Path) -> None:
    """Not read, it would fill the pipe, and the child would stand still."""
    noisy = tmp_path / "noisy"
    noisy.write_text(
        f"#!{sys.executable}\nimport sys\n"
        "sys.stderr.write('x' * 3_000_000 + '\\nnot json\\n[1]\\n')\n"
        'sys.stderr.write(\'{"level": "ERROR", "msg": "alas", "error": "no luck"}\\n\')\n'
    )
    noisy.chmod(0o755)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(litestream, "find", lambda: noisy)
        made = supervisor(book, target)
        await made.start()
        await until(lambda: made.problem is not None, 60.0)
        await made.stop()
    assert (made.problem or "").endswith(": alas no luck")


def test_its_configuration_is_what_it_takes(tmp_path: Path, target: Target) -> None:
    """Past `truncate-page-n` writers would stand still."""
    import json

    source = litestream.Source(tmp_path / "a.db", tmp_path / "meta", target.litestream())
    found = json.loads(litestream.config([source], tmp_path / "s", FAST))
    database = found["dbs"][0]
    assert (database["monitor-interval"], database["replica"]["sync-interval"]) == ("1000ms", "100ms")
    assert database["truncate-page-n"] >= 1_000_000
    assert litestream.version() == litestream.TESTED
