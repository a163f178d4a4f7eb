"""A tenant that cannot be opened disturbs no other: it is reported, tried again, and goes on once it can."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tenants_shop import ALL, client, count

from perdure import Engine
from perdure.tenants import TenantBusy, Tenants

Until = Callable[..., Any]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "tenants"
    made.mkdir()
    return made


async def works(folder: Path, name: str) -> None:
    async with client(folder, name) as outside:
        assert await (await outside.start(count, 2)).result(60) == 2


async def test_damaged_and_foreign_files_are_reported_once_and_disturb_nobody(
    folder: Path, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (folder / "damaged.db").write_bytes(b"not a database, " * 1000)
    with sqlite3.connect(folder / "foreign.db") as connection:
        connection.execute("CREATE TABLE theirs (x)")
    connection.close()
    async with Tenants(folder, ALL, idle_s=0.1) as tenants:
        await until(lambda: set(tenants.report().problems) == {"damaged", "foreign"})
        await works(folder, "acme")
        failures = tenants.tenants["damaged"].failures
        await until(lambda: tenants.tenants["damaged"].failures > failures)
        assert sum("damaged.db is not a SQLite database" in record.message for record in caplog.records) == 1
        with pytest.raises(TenantBusy, match="not a SQLite database"):
            async with tenants.open("damaged"):
                raise AssertionError
        async with Engine(folder.parent / "good.db", ALL) as engine:
            await (await engine.start(count, 1, id="g")).result()
        os.replace(folder.parent / "good.db", folder / "damaged.db")
        await until(lambda: set(tenants.report().problems) == {"foreign"}, 60)
        await works(folder, "damaged")


async def test_a_tenant_that_another_process_runs_is_left_to_it(folder: Path, until: Until) -> None:
    async with Engine(folder / "acme.db", ALL) as engine:
        async with Tenants(folder, ALL, idle_s=0.1) as tenants:
            await works(folder, "acme")  # by that one
            with pytest.raises(TenantBusy, match="another process"):
                async with tenants.open("acme"):
                    raise AssertionError
            await works(folder, "beta")
            await engine.__aexit__(None, None, None)
            async with client(folder, "acme") as outside:
                assert await (await outside.start(count, 2, id="later")).result(60) == 2
            await until(lambda: not tenants.report().problems, 60)


async def test_a_folder_has_one_who_looks_after_it(folder: Path, until: Until) -> None:
    async with Tenants(folder, ALL) as first:
        import asyncio

        second = Tenants(folder, ALL, poll_s=0.02)
        entering = asyncio.ensure_future(second.__aenter__())
        async with first.open("acme"):
            assert not entering.done()
        assert not entering.done()
    await entering
    async with second.open("acme") as engine:
        assert engine.leading
    await second.close()
