"""Two machines, each with a folder, on one bucket, as real processes: each tenant runs on one of them at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from replica_machines import Machine, Machines, as_json, cli, machines
from servers import S3Server, tool
from tenant_steps import walk

from perdure import Client

Until = Callable[..., Any]
MODULE = Path(__file__).with_name("tenant_steps.py")
NAMES = [f"t{n}" for n in range(4)]
STEPS = 16
LEASE = "4s"


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Machines]:
    with machines(tmp_path) as made:
        yield made


@pytest.fixture
def steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[str, int, int]]]:
    """What was done so far: tenant, step, process."""
    file = tmp_path / "steps.txt"
    file.touch()
    monkeypatch.setenv("STEPS", str(file))

    def read() -> list[tuple[str, int, int]]:
        lines = [line.split() for line in file.read_text().splitlines()]
        return [(name, int(n), int(pid)) for name, n, pid in lines]

    return read


def options(url: str) -> list[object]:
    return [MODULE, "--db-dir", "tenants", "--replicate", url, "--lease", LEASE, "--idle", "1s"]


async def begin(folder: Path, name: str, count: int = STEPS) -> None:
    async with Client(folder / "tenants" / f"{name}.db", create=True) as client:
        await client.start(walk, name, count, 0.25, id="walk")


def litestreams(machine: Machine) -> list[bytes]:
    children = [int(pid) for file in Path(f"/proc/{machine.process.pid}/task").glob("*/children")
                for pid in file.read_text().split()]  # fmt: skip
    commands = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children]
    return [command for command in commands if b"litestream" in command]


async def test_a_standby_takes_over_every_tenant_of_a_machine_that_stands_still(
    moto: S3Server, bucket_name: str, start: Machines, steps: Any, until: Until
) -> None:
    """And which wakes up while the other one runs what it thinks is its own."""
    tool("litestream")
    url = moto.url(bucket_name, "fleet")
    first = start(*options(url))
    await until((first.folder / "tenants").exists, 60)
    for name in NAMES:
        await begin(first.folder, name, 1000)
    await until(lambda: {(name, 3) for name in NAMES} <= {(name, n) for name, n, _ in steps()}, 60)
    second = start(*options(url))  # finds them in the bucket, and each one's lease taken
    await second.until_it_says("fetching what is newer in the bucket")
    seen = len(steps())
    await until(lambda: len(steps()) > seen + 4 * len(NAMES), 60)
    assert {pid for _, _, pid in steps()} == {first.process.pid}
    assert len(litestreams(first)) == 1
    first.send(signal.SIGSTOP)
    await until(lambda: {name for name, _, pid in steps() if pid == second.process.pid} == set(NAMES), 90)
    first.send(signal.SIGCONT)
    await first.until_it_says("lost the lease")
    seen = len(steps())
    await until(lambda: len(steps()) > seen + 4 * len(NAMES), 60)
    assert len(litestreams(second)) == 1
    for name in NAMES:
        pids = [pid for other, _, pid in steps() if other == name]
        handed = pids.index(second.process.pid)
        assert set(pids[:handed]) == {first.process.pid}
        assert set(pids[handed:]) == {second.process.pid}
    found = as_json(cli(second.folder, "status", "--db-dir", "tenants", "--json")[1])
    assert [tenant["name"] for tenant in found["tenants"]] == NAMES  # type: ignore[attr-defined, index]
    assert {tenant["state"] for tenant in found["tenants"]} == {"open"}  # type: ignore[attr-defined, index]
    first.send(signal.SIGTERM)
    second.send(signal.SIGTERM)
    assert await first.until_it_ends() == 0
    assert await second.until_it_ends() == 0
    assert "in the files and in the bucket" in second.said


async def test_the_same_command_elsewhere_continues_every_tenant(
    moto: S3Server, bucket_name: str, start: Machines, steps: Any, until: Until
) -> None:
    """The machine is lost with its disk, and so is its Litestream; a new one begins with nothing."""
    tool("litestream")
    url = moto.url(bucket_name, "fleet")
    first = start(*options(url))
    await until((first.folder / "tenants").exists, 60)
    for name in NAMES:
        await begin(first.folder, name)
    await until(lambda: {(name, 5) for name in NAMES} <= {(name, n) for name, n, _ in steps()}, 60)
    first.send(signal.SIGKILL)
    second = start(*options(url))
    await until(lambda: {(name, STEPS - 1) for name in NAMES} <= {(name, n) for name, n, _ in steps()}, 90)
    for name in NAMES:
        async with Client(second.folder / "tenants" / f"{name}.db") as client:
            assert await client.execution("walk", walk).result(60) == STEPS


async def test_a_worker_that_was_killed_goes_on_in_its_folder_at_once(
    moto: S3Server, bucket_name: str, start: Machines, steps: Any, until: Until
) -> None:
    """Its lease is taken without a wait, and a Litestream that outlived it is ended first."""
    tool("litestream")
    url = moto.url(bucket_name, "fleet")
    long = [*options(url)[:-3], "10m", "--idle", "1s"]
    first = start(*long, folder="one")
    await until((first.folder / "tenants").exists, 60)
    await begin(first.folder, "acme")
    await until(lambda: len(steps()) >= 4, 60)
    orphan = int((first.folder / "tenants" / ".perdure-litestream-lock").read_text().split()[0])
    os.kill(orphan, signal.SIGSTOP)  # it would end by itself otherwise
    first.send(signal.SIGKILL)
    await first.until_it_ends()
    start(*long, folder="one")
    async with Client(first.folder / "tenants" / "acme.db") as client:
        assert await client.execution("walk", walk).result(60) == STEPS
    assert not Path(f"/proc/{orphan}").exists() or b"litestream" not in Path(f"/proc/{orphan}/cmdline").read_bytes()


async def test_the_command_line_on_a_folder_without_a_bucket(start: Machines, steps: Any, until: Until) -> None:
    machine = start(MODULE, "--db-dir", "tenants", "--idle", "0.2s")
    await machine.until_it_says("0 tenants, 0 open")
    begun = ["start", "walk", "--input", '{"tenant": "acme", "steps": 2, "pause_s": 0.1}', "--db", "tenants/acme.db"]
    code, out, _ = cli(machine.folder, *begun, "--id", "w")
    assert (code, out) == (0, "w\n")
    async with Client(machine.folder / "tenants" / "acme.db") as client:
        assert await client.execution("w", walk).result(60) == 2
    (machine.folder / "tenants" / "bad.db").write_bytes(b"x" * 5000)
    await until(lambda: "bad.db is not a SQLite database" in machine.said, 60)

    def told() -> Any:
        return as_json(cli(machine.folder, "status", "--db-dir", "tenants", "--json")[1])

    await until(lambda: told()["tenants"][0]["state"] == "closed", 60)
    found = told()
    assert found["runner"]["pid"] == machine.process.pid
    assert [(tenant["name"], tenant["counts"]) for tenant in found["tenants"]] == [
        ("acme", {"completed": 1}),
        ("bad", {}),
    ]
    assert list(found["problems"]) == ["bad"]
    code, out, _ = cli(machine.folder, "status", "--db-dir", "tenants")
    assert code == 0
    assert "acme\tclosed\t1 completed" in out
    machine.send(signal.SIGINT)
    assert await machine.until_it_ends() == 0
    assert "stopped; everything that was acknowledged is in the files" in machine.said
    assert cli(machine.folder, "status", "--db-dir", "tenants", "--db", "x.db")[0] == 2
    assert cli(machine.folder, "status", "--db-dir", "nowhere")[0] == 2
    assert cli(machine.folder, "worker", MODULE, "--db-dir", "tenants", "--db", "x.db")[0] == 2
    assert cli(machine.folder, "start", "walk", "--db", "elsewhere.db")[0] == 5  # not in a folder of tenants
