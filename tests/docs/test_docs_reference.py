"""The pages on the file, on events and on errors leave nothing out and say what is so."""

from __future__ import annotations

import asyncio
import inspect
import re
import sqlite3
from pathlib import Path

import pytest
from docs_page import REFERENCE, ROOT, code, sections, table

import perdure
from perdure import Engine, Retry, Signal, activity, continue_as_new, current_attempt, errors, patched, workflow
from perdure.codec.encryption import InvalidKeys
from perdure.codec.payload import DecodeError
from perdure.events import CLOSING, COMMANDS, INPUTS, NOTES, Kind
from perdure.store.sqlite import SqliteStore

# --- schema.md ------------------------------------------------------------------------------------------------------


@pytest.fixture
def database(tmp_path: Path) -> sqlite3.Connection:
    path = tmp_path / "empty.db"
    SqliteStore(path).close()
    return sqlite3.connect(path)


def test_every_table_and_view_is_described_column_by_column(database: sqlite3.Connection) -> None:
    names = database.execute(
        "SELECT name FROM sqlite_master WHERE type IN ('table', 'view') AND name NOT LIKE 'sqlite_%'"
    )
    real = {name: [row[1] for row in database.execute(f"PRAGMA table_xinfo({name})")] for (name,) in names.fetchall()}
    described = {title: [code(row[0]) for row in table(text)] for title, text in sections("schema.md").items()}
    assert described == real


def test_every_status_is_described() -> None:
    described = [code(row[0]) for row in table(sections("schema.md", "##")["Statuses"])]
    assert described == [status.value for status in perdure.Status]


def test_the_application_id_is_the_one_in_the_file(database: sqlite3.Connection) -> None:
    (found,) = database.execute("PRAGMA application_id").fetchone()
    for page in (REFERENCE / "schema.md", ROOT / "docs" / "guides" / "operations.md"):
        assert str(found) in page.read_text(encoding="utf-8")


# --- events.md ------------------------------------------------------------------------------------------------------

FAMILIES = {"Inputs": INPUTS, "Notes": NOTES, "Commands": COMMANDS}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_event_kind_is_described_in_its_family(family: str) -> None:
    rows = table(sections("events.md", "##")[family])
    described = [(code(row[0]), int(row[1])) for row in rows]
    assert described == sorted(((kind.name.lower(), kind.value) for kind in FAMILIES[family]), key=lambda pair: pair[1])


def test_what_closes_an_execution_is_said() -> None:
    rows = [row for family in FAMILIES for row in table(sections("events.md", "##")[family])]
    assert {code(row[0]) for row in rows if "Closes" in row[4]} == {kind.name.lower() for kind in CLOSING}


go = Signal("go", bool)


@activity(retry=Retry(attempts=2, initial_s=0))
async def flaky() -> str:
    if current_attempt().number == 1:
        raise ValueError("once")
    return "done"


@activity(retry=Retry(attempts=1))
async def broken() -> None:
    raise ValueError("for good")


@activity(exec=["sh", "-c", "echo hello >&2; echo 1"])
def shell() -> int: ...


tokens: asyncio.Queue[str] = asyncio.Queue()


@activity
async def deferred() -> int:
    attempt = current_attempt()
    tokens.put_nowait(attempt.token)
    attempt.finish_later()


@workflow
async def child(how: str) -> str:
    if how == "fail":
        raise ValueError(how)
    if how == "wait":
        await asyncio.sleep(3600)
    return how


@workflow
async def everything(again: bool) -> None:
    """Lead to as many kinds of events as one execution can."""
    perdure.state["key"] = 1
    patched("patch")
    await flaky()
    await shell.submit()
    await deferred()
    await asyncio.gather(child("fine"), child("fail"), broken(), return_exceptions=True)
    waiting = child.submit("wait")
    waiting.cancel()
    await asyncio.wait([waiting])
    slow = asyncio.create_task(flaky_slowly())
    await asyncio.sleep(0)
    slow.cancel()
    async with asyncio.timeout(3600):
        await asyncio.sleep(0.001)
    go.send(perdure.execution_id(), True)
    go.send(perdure.execution_id(), True)
    await go.receive()
    if again:
        continue_as_new(False)
    await go.receive()
    await asyncio.sleep(3600)


async def flaky_slowly() -> None:
    await deferred()


@pytest.mark.filterwarnings("ignore::perdure.errors.DeterminismWarning")
def test_events_have_the_parts_that_the_page_says(tmp_path: Path) -> None:
    async def main() -> None:
        async with Engine(tmp_path / "events.db", [everything, child]) as engine:
            execution = await engine.start(everything, True, id="x")
            for _ in range(2):
                await engine.complete(await tokens.get(), 1)
                while not tokens.empty():
                    tokens.get_nowait()
            await execution.pause("reason")
            await execution.resume()
            await execution.signal(go, True)
            await execution.cancel("reason")
            late = await engine.start(child, "wait", id="late", timeout_s=0.001)
            with pytest.raises(errors.ExecutionTimedOut):
                await late.result()
            await engine.start(child, "wait", id="terminated")
            await engine.execution("terminated").terminate("reason")
            failed = await engine.start(child, "fail", id="failed")
            with pytest.raises(ValueError, match="fail"):
                await failed.result()
            await failed.retry()
            with pytest.raises(errors.ExecutionCancelled):
                await execution.result()

    asyncio.run(main())
    rows = [row for family in FAMILIES for row in table(sections("events.md", "##")[family])]
    described = {code(row[0]): row[2:] for row in rows}
    seen = set()
    connection = sqlite3.connect(tmp_path / "events.db")
    for kind, ref, name, data in connection.execute("SELECT kind, ref, name, data FROM history"):
        seen.add(kind)
        for part, said in zip((ref, name), described[kind], strict=False):
            assert (part is None) == (said == "–"), f"{kind}: ref {ref}, name {name}; the page says {described[kind]}"
        if described[kind][2] == "–":
            assert data is None, f"{kind} has data {data}"
        elif kind != "state_set":
            assert data is not None, f"{kind} has no data"
    assert {kind.name.lower() for kind in Kind} - seen == set()


# --- errors.md ------------------------------------------------------------------------------------------------------


def test_every_error_is_described_with_its_bases() -> None:
    ours = [value for value in vars(errors).values() if inspect.isclass(value) and value.__module__ == errors.__name__]
    described = {
        title: tuple(re.findall(r"`(\w+)`", text.strip().split(". ")[0].removeprefix("Base: ")))
        for title, text in sections("errors.md").items()
    }
    real = {cls.__name__: tuple(base.__name__ for base in cls.__bases__) for cls in [*ours, DecodeError, InvalidKeys]}
    assert described == real
