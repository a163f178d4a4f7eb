"""The jobs in Restate (https://docs.restate.dev): its server from npm, its Python SDK from PyPI, their defaults.

The server is one process, the service with the workflow another (hypercorn, HTTP/2, as the SDK's documentation says),
this one asks over HTTP for the results. All of it runs in a network namespace with nothing but loopback: at its start
the server looks for newer versions on the internet, and a benchmark does not. Rates are compared, not totals.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SERVERS = Path(sys.prefix) / "node_modules" / "@restatedev"
"""Where `make bench` has npm put the server: beside the Python packages that it uses."""
INGRESS, ADMIN, SERVICE = 8080, 9070, 9080
NAMESPACE = ("unshare", "--map-root-user", "--net")
WARM_UP_STEPS = 50
PATIENCE_S = 60.0


class NotHere(Exception):
    """Restate cannot be run here."""


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.peers.restate_jobs", description=__doc__)
    parser.add_argument("job", choices=["seq", "conc"])
    parser.add_argument("--dir", type=Path, required=True, help="an empty folder for the server's files")
    parser.add_argument("--steps", type=int, required=True, help="per workflow")
    parser.add_argument("--workflows", type=int, default=1, help="only for conc")
    parser.add_argument("--inside", action="store_true", help="already in the network namespace")
    options = parser.parse_args()
    try:
        if not options.inside:
            _enter_namespace()
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        with _running(options.dir.absolute()):
            steps_per_s = asyncio.run(_measured(options.workflows if options.job == "conc" else 1, options.steps))
        print(json.dumps({"values": {"": steps_per_s}}))
    except NotHere as error:
        print(json.dumps({"not_run": str(error)}))


def _enter_namespace() -> None:
    """Start this program again where there is no network but loopback. Raises `NotHere`."""
    _server()
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        subprocess.run([*NAMESPACE, "ip", "link", "set", "lo", "up"], check=True, capture_output=True)
        again = [*NAMESPACE, sys.executable, "-m", "bench.peers.restate_jobs", *sys.argv[1:], "--inside"]
        os.execvp(again[0], again)
    raise NotHere("no network namespace can be made here, and Restate's server would reach for the internet")


def _server() -> Path:
    """Find the server's program. Raises `NotHere`."""
    if missing := [name for name in ("restate", "hypercorn") if importlib.util.find_spec(name) is None]:
        raise NotHere(f"not installed here: {', '.join(missing)}, for its Python SDK")
    found = next(SERVERS.glob("restate-server-*/bin/restate-server"), None)
    if found is None:
        raise NotHere(
            "its server, an npm package, is not installed" + ("" if shutil.which("npm") else ": no node here")
        )
    return found


@contextlib.contextmanager
def _running(folder: Path) -> Iterator[None]:
    """Run the server and the service until the block ends."""
    environment = os.environ | {"RESTATE_BASE_DIR": str(folder), "RESTATE_DISABLE_TELEMETRY": "true"}
    server = [str(_server()), "--no-logo", "--bind-ip", "127.0.0.1", "--advertised-host", "127.0.0.1"]
    server += ["--listen-mode", "tcp"]
    service = [sys.executable, "-m", "hypercorn", "--bind", f"127.0.0.1:{SERVICE}", "bench.peers.restate_service:app"]
    with contextlib.ExitStack() as stack:
        log = stack.enter_context((folder / "log.txt").open("w"))
        for command in (server, service):
            process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=log)
            stack.callback(_end, process)
        yield


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def _measured(workflows: int, steps: int) -> float:
    """Run `workflows` of `steps` steps at once: steps/s of all together, their starts included."""
    await _until_healthy()
    await _post(ADMIN, "/deployments", {"uri": f"http://127.0.0.1:{SERVICE}"})
    await _sequence(WARM_UP_STEPS)
    began = time.perf_counter()
    totals = await asyncio.gather(*(_sequence(steps) for _ in range(workflows)))
    elapsed_s = time.perf_counter() - began
    expected = steps * (steps - 1) // 2
    if any(total != expected for total in totals):
        raise RuntimeError(f"a wrong result: expected {expected}, got {set(totals)}")
    return workflows * steps / elapsed_s


async def _sequence(steps: int) -> int:
    return int(await _post(INGRESS, "/bench/sequence", steps))


async def _until_healthy() -> None:
    deadline = time.monotonic() + PATIENCE_S
    for port, path in ((INGRESS, "/restate/health"), (ADMIN, "/health"), (SERVICE, "/health")):
        while True:
            with contextlib.suppress(OSError, RuntimeError, asyncio.IncompleteReadError):
                await _request(port, f"GET {path} HTTP/1.1\r\n", b"")
                break
            if time.monotonic() > deadline:
                raise RuntimeError(f"port {port} did not answer within {PATIENCE_S:g} s")
            await asyncio.sleep(0.1)


async def _post(port: int, path: str, value: object) -> bytes:
    return await _request(
        port, f"POST {path} HTTP/1.1\r\nContent-Type: application/json\r\n", json.dumps(value).encode()
    )


async def _request(port: int, head: str, body: bytes) -> bytes:
    """Make one HTTP request on a connection of its own; give the answer's body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"{head}Host: 127.0.0.1\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
        )
        answer = await reader.read()
    finally:
        writer.close()
    start, _, rest = answer.partition(b"\r\n\r\n")
    status, *headers = start.decode().split("\r\n")
    if " 20" not in status[:13]:
        raise RuntimeError(f"port {port} answered {status} {rest[:200]!r}")
    if any(header.lower().replace(" ", "") == "transfer-encoding:chunked" for header in headers):
        rest = rest.partition(b"\r\n")[2].rpartition(b"\r\n0\r\n")[0]  # the answers are short: one chunk
    return rest


if __name__ == "__main__":
    main()
