"""A million executions that sleep, in one file: what they cost an engine that starts.

Starting them through the engine takes minutes and is not what is measured. One of each kind is really started; the
others are copies of its rows in every table, each with an id of its own and all instants moved by the same time, so
that its history is as consistent as that of the first.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from pathlib import Path

import apsw

from bench.jobs.definitions import database, nap, warm_engine
from bench.jobs.second import ROOT
from perdure import Status

LONG_S = 30 * 86_400.0
SOON_S = 60.0
FIRST_DUE_S = 4.0
"""From the end of the building to the first timer; the engine starts meanwhile."""
SEED = 20_260_101
ID = "printf('01980000-0000-7000-8000-%012x', {number})"


async def sleepers(folder: Path, *, count: int, due: int, spread: int = 8) -> dict[str, float]:
    """Build the file, then start an engine on it in a process of its own; see wake.py for what that measures.

    `due` of them fall due within `spread` seconds, as many again in one instant after that.
    """
    path = database(folder)
    async with warm_engine(folder) as engine:
        for id, delay_s in (("long", LONG_S), ("soon", SOON_S)):
            await engine.start(nap, delay_s, id=id)
            while (await engine.describe(id)).status is not Status.WAITING:
                await asyncio.sleep(0.01)
    _fill(path, count - 2 * due, due, spread)
    command = [sys.executable, "-m", "bench.jobs.wake", str(path), str(due)]
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        raise RuntimeError("the engine on the file of sleepers failed")
    values: dict[str, float] = json.loads(output)
    return {**values, "file_mb": path.stat().st_size / 2**20}


def _fill(path: Path, long: int, due: int, spread_s: float) -> None:
    connection = apsw.Connection(str(path))
    connection.pragma("synchronous", "off")
    with connection:
        _copy(connection, "long", [(number, number) for number in range(1, long)])
    _sync(connection, path)  # or the engine's first checkpoint would have to write all of this to the disk
    draw = random.Random(SEED)
    shift = _due_at(connection, "soon")
    spread_at = round((time.time() + FIRST_DUE_S) * 1e6)
    burst_at = spread_at + round((spread_s + FIRST_DUE_S) * 1e6)
    instants = [spread_at + round(draw.random() * spread_s * 1e6) for _ in range(due)] + [burst_at] * due
    with connection:
        _copy(connection, "soon", [(long + n, instant - shift) for n, instant in enumerate(instants)])
    _sync(connection, path)
    connection.close()


def _sync(connection: apsw.Connection, path: Path) -> None:
    """Move the log into the file, and the file to the disk."""
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _due_at(connection: apsw.Connection, id: str) -> int:
    sql = "SELECT due_at FROM perdure_timer JOIN perdure_execution x ON x.num = execution WHERE x.id = ?"
    due_at: int = connection.execute(sql, (id,)).get
    return due_at


def _copy(connection: apsw.Connection, id: str, copies: list[tuple[int, int]]) -> None:
    """Copy the rows of the execution `id`; a copy is (its number, by how many microseconds it comes later)."""
    num: int = connection.execute("SELECT num FROM perdure_execution WHERE id = ?", (id,)).get
    base: int = connection.execute("SELECT max(num) FROM perdure_execution").get
    connection.execute("CREATE TEMP TABLE copy (num INTEGER PRIMARY KEY, number INTEGER, later INTEGER)")
    rows = ((base + place, number, later) for place, (number, later) in enumerate(copies, 1))
    connection.executemany("INSERT INTO copy VALUES (?, ?, ?)", rows)
    moved = "CASE WHEN kind = 42 THEN CAST(CAST(data AS INTEGER) + later AS TEXT) ELSE data END"
    tables = {
        "perdure_execution": {"num": "c.num", "id": ID.format(number="number"), "created_at": "created_at + later"},
        "perdure_event": {"n": "(c.num << 24) | t.seq", "at": "at + later", "data": moved},
        "perdure_timer": {"execution": "c.num", "due_at": "due_at + later"},
    }
    for table, changed in tables.items():
        columns = [str(row[1]) for row in connection.execute(f"PRAGMA table_info({table})")]
        values = ", ".join(changed.get(column, f"t.{column}") for column in columns)
        key = {"perdure_execution": "num = ?1", "perdure_event": "n BETWEEN ?1 << 24 AND ?1 << 24 | 0xffffff"}
        source = f"temp.copy c CROSS JOIN {table} t ON t.{key.get(table, 'execution = ?1')} ORDER BY c.num"
        connection.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {values} FROM {source}", (num,))
    connection.execute("DROP TABLE temp.copy")
