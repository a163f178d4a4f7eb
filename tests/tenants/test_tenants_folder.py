"""A folder of databases in one process: opened on demand, closed when idle, found when their files come or change."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tenants_shop import ALL, client, count, go, nap, wait

from perdure import Client, Engine, Status
from perdure.errors import EngineClosed
from perdure.tenants import InvalidTenant, Tenants, opened

Until = Callable[..., Any]
MANY, USED = 200, 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "tenants"


def handles(folder: Path) -> list[str]:
    """The files below a folder that this process has open."""
    found = []
    for fd in os.listdir("/proc/self/fd"):
        try:
            found.append(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return [path for path in found if path.startswith(f"{folder}/") and "-lock" not in Path(path).name[:23]]


async def all_closed(tenants: Tenants, until: Until) -> None:
    await until(lambda: not tenants.report().open, 60)


async def test_a_tenant_is_opened_when_asked_for_and_closed_when_idle(folder: Path, until: Until) -> None:
    async with Tenants(folder, ALL, idle_s=0.1) as tenants:
        async with tenants.open("acme") as engine:
            assert await (await engine.start(count, 3)).result() == 3
            assert tenants.report().open == {"acme": "open"}
        await all_closed(tenants, until)
        assert handles(folder) == []
        async with tenants.open("acme") as engine:
            assert (await engine.counts())[Status.COMPLETED] == 1
    assert handles(folder) == []


async def test_it_stays_open_while_this_process_uses_it_or_something_runs(folder: Path, until: Until) -> None:
    async with Tenants(folder, ALL, idle_s=0.05, poll_s=0.02) as tenants:
        async with tenants.open("acme"):
            looks = tenants.watch.looks
            await until(lambda: tenants.watch.looks > looks + 20)
            assert tenants.report().open == {"acme": "open"}
        await all_closed(tenants, until)


async def test_what_other_processes_ask_of_a_closed_tenant_is_done(folder: Path, until: Until) -> None:
    async with Tenants(folder, ALL, idle_s=0.1) as tenants:
        async with client(folder, "acme") as outside:  # the file is new
            execution = await outside.start(wait, "acme", id="w")
            await until(lambda: "acme" in tenants.report().open)
            await all_closed(tenants, until)
            assert (await execution.info()).status is Status.WAITING
            await execution.signal(go, "on")
            assert await execution.result(60) == "acme on"
            await all_closed(tenants, until)
            assert await (await outside.start(count, 2)).result(60) == 2


async def test_the_timer_of_a_closed_tenant_fires(folder: Path, until: Until, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(opened, "KEPT_OPEN_S", 0.1)
    async with Tenants(folder, ALL, idle_s=0.1) as tenants, client(folder, "acme") as outside:
        execution = await outside.start(nap, 3.0)
        await until(lambda: "acme" in tenants.report().open)
        await all_closed(tenants, until)
        assert (await execution.info()).status is Status.WAITING
        assert await execution.result(60) == "slept"
        assert tenants.doors.openings == 2


async def test_a_timer_that_is_due_soon_is_waited_for(folder: Path) -> None:
    async with Tenants(folder, ALL, idle_s=0.05) as tenants, client(folder, "acme") as outside:
        assert await (await outside.start(nap, 1.5)).result(60) == "slept"
        assert tenants.doors.openings == 1


async def test_what_was_under_way_when_the_process_before_died_goes_on(
    folder: Path, until: Until, spawn: Callable[..., Any]
) -> None:
    folder.mkdir()
    script = Path(__file__).with_name("tenants_shop.py").read_text()
    first, second = spawn(script, folder), None
    assert first.stdout.readline() == "ready\n"
    async with client(folder, "acme") as outside:
        waiting = await outside.start(wait, "acme")
        sleeping = await outside.start(nap, 2.0)
        await until(lambda: _is(outside, waiting.id, Status.WAITING))
        second = spawn(script, folder)  # stands by
        first.kill()
        assert second.stdout.readline() == "ready\n"
        await waiting.signal(go, "on")
        assert await waiting.result(60) == "acme on"
        assert await sleeping.result(60) == "slept"


async def _is(outside: Client, id: str, status: Status) -> bool:
    return (await outside.describe(id)).status is status


async def test_nothing_is_lost_that_comes_while_a_tenant_is_being_closed(folder: Path, until: Until) -> None:
    seed = random.randrange(10**9)
    print("seed", seed)
    draw = random.Random(seed)
    async with Tenants(folder, ALL, idle_s=0.01, poll_s=0.01) as tenants, client(folder, "acme") as outside:
        for _ in range(12):
            execution = await outside.start(wait, "acme")
            await asyncio.sleep(0.1 + draw.random() * 0.1)  # to meet each moment of a closing
            await execution.signal(go, "on")
            assert await execution.result(60) == "acme on"
            await asyncio.sleep(0.1 + draw.random() * 0.1)
        assert tenants.doors.openings > 2
        await all_closed(tenants, until)


async def test_no_more_than_so_many_are_open_at_once(folder: Path) -> None:
    async with Tenants(folder, ALL, idle_s=60, max_open=3) as tenants:
        most = 0

        async def use(name: str) -> None:
            nonlocal most
            async with tenants.open(name) as engine:
                most = max(most, len(tenants.report().open))
                assert await (await engine.start(count, 2)).result() == 2

        await asyncio.gather(*(use(f"t{n}") for n in range(12)))
        assert most <= 3


async def test_many_idle_tenants_hold_nothing(folder: Path, until: Until, tmp_path: Path) -> None:
    async with Engine(tmp_path / "one.db", ALL) as engine:
        await engine.start(wait, "x", id="w")
    folder.mkdir()
    for n in range(MANY):
        shutil.copy(tmp_path / "one.db", folder / f"t{n}.db")
    async with Tenants(folder, ALL, idle_s=0.1, max_open=20, synchronous="normal") as tenants:

        async def use(n: int) -> None:
            async with tenants.open(f"t{n}") as engine:
                assert await (await engine.start(count, 1)).result() == 1

        async def round() -> int:
            await asyncio.gather(*map(use, range(USED)))
            await all_closed(tenants, until)
            assert handles(folder) == []
            gc.collect()
            return len(gc.get_objects())

        await round()
        before = await round()
        assert await round() - before < USED  # less than one object each
        assert tenants.report().tenants == MANY
        openings, looks = tenants.doors.openings, tenants.watch.looks
        assert openings == 3 * USED
        await until(lambda: tenants.watch.looks > looks + 3)
        assert tenants.doors.openings == openings


async def test_what_cannot_go_on_does_not_keep_a_tenant_open(folder: Path, until: Until) -> None:
    """Blocked executions, and what waits in the inbox of one that is paused: looked at once, not again and again."""
    async with Tenants(folder, [count], idle_s=0.1) as tenants, client(folder, "acme") as outside:
        blocked = await outside.start(wait, "acme")
        await until(lambda: _is(outside, blocked.id, Status.BLOCKED), 60)
        await blocked.signal(go, "on")
        await until(lambda: tenants.doors.openings >= 1)
        await all_closed(tenants, until)
        looks = tenants.watch.looks
        await until(lambda: tenants.watch.looks > looks + 8)
        await all_closed(tenants, until)
        openings, looks = tenants.doors.openings, tenants.watch.looks
        await until(lambda: tenants.watch.looks > looks + 8)
        assert tenants.doors.openings == openings
    async with Tenants(folder, ALL, idle_s=0.1), client(folder, "acme") as outside:  # the code that was missing
        assert await outside.execution(blocked.id, wait).result(60) == "acme on"


async def test_names_are_checked(folder: Path, until: Until) -> None:
    async with Tenants(folder, ALL) as tenants:
        for name in ("", ".hidden", "../up", "a/b", "a b", "ä", "x" * 101):
            with pytest.raises(InvalidTenant):
                async with tenants.open(name):
                    raise AssertionError(name)
        async with tenants.open("ann@example.org"):
            pass
    assert (folder / "ann@example.org.db").exists()


async def test_what_is_no_tenant_is_left_alone(folder: Path, until: Until, tmp_path: Path) -> None:
    folder.mkdir()
    async with Engine(tmp_path / "elsewhere.db", ALL) as engine:
        await (await engine.start(count, 1)).result()
    (folder / "link.db").symlink_to(tmp_path / "elsewhere.db")
    (folder / ".hidden.db").write_bytes(b"")
    (folder / "folder.db").mkdir()
    (folder / "notes.txt").write_text("hello")
    async with Tenants(folder, ALL) as tenants:
        looks = tenants.watch.looks
        await until(lambda: tenants.watch.looks > looks + 2)
        assert tenants.report().tenants == 0


async def test_a_file_that_goes_is_forgotten(folder: Path, until: Until) -> None:
    async with Tenants(folder, ALL, idle_s=0.1) as tenants:
        async with tenants.open("acme"):
            pass
        await all_closed(tenants, until)
        (folder / "acme.db").unlink()
        await until(lambda: tenants.report().tenants == 0)


async def test_after_the_end_nothing_is_opened(folder: Path) -> None:
    async with Tenants(folder, ALL) as tenants:
        async with tenants.open("acme"):
            pass
    with pytest.raises(EngineClosed):
        async with tenants.open("acme"):
            raise AssertionError


def test_options_that_make_no_sense_are_refused(folder: Path) -> None:
    for wrong in ({"idle_s": 0}, {"poll_s": -1}, {"max_open": 0}, {"synchronous": "off"}, {"durability": "replicated"}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            Tenants(folder, ALL, **wrong)  # type: ignore[arg-type] # wrong on purpose
