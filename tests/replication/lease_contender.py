"""A process that wants a lease: waits for a line on its input, acquires it, and says on each line of its output what it
found (`held`, `valid`, `invalid`, `lost`, `released`) at which uptime. A second line makes it release and end."""

from __future__ import annotations

import asyncio
import sys

from perdure.replication.bucket import Bucket
from perdure.replication.lease import Lease
from perdure.replication.target import Target
from perdure.replication.uptime import uptime_s


def say(what: str, epoch: int) -> None:
    print(what, epoch, uptime_s(), flush=True)


async def read_line() -> None:
    await asyncio.to_thread(sys.stdin.readline)


async def main(url: str, holder: str, ttl_s: float) -> None:
    bucket = Bucket.open(Target.parse(url))
    await bucket.honours_conditions()
    lease = Lease(bucket, holder, ttl_s=ttl_s)
    say("ready", 0)
    await read_line()
    await lease.acquire()
    say("held", lease.epoch)
    end = asyncio.create_task(read_line())
    while not lease.lost.is_set() and not end.done():
        at = uptime_s()
        print("valid" if lease.valid() else "invalid", lease.epoch, at, flush=True)
        await asyncio.sleep(0.02)
    if lease.lost.is_set():
        say("lost", lease.epoch)
    await lease.release()
    say("released", lease.epoch)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], float(sys.argv[3])))
