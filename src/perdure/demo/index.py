"""The job as workflows: one for the library, a child of it per package, an activity per file, one report at the end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from perdure.activity import activity
from perdure.demo import ledger
from perdure.demo.source import FileFacts, PackageFacts, Report, combine, examine, packages_in
from perdure.workflow import execution_id, state, workflow

EXECUTION_ID = "stdlib"
STARTED = "started"
"""What a worker writes on its standard output once the start of the job is on the disk."""


class Job(msgspec.Struct, frozen=True):
    """What to index, and where the ledger is."""

    library: str
    ledger: str
    with_tests: bool = False


# What is on the disk may change between two runs of the code, so a workflow asks an activity and remembers the answer.
@activity
def find_packages(job: Job) -> dict[str, list[str]]:
    return packages_in(Path(job.library), job.with_tests)


# A process, not a thread: tokenizing and walking a tree is Python code that holds the interpreter lock. In threads,
# two files would take turns on one core and hold up the engine's own loop; in processes every core works on one.
@activity(executor="process")
def index_file(job: Job, path: str) -> FileFacts:
    facts = examine(Path(job.library), path)
    ledger.append(Path(job.ledger), path)
    return facts


@workflow
async def index_package(job: Job, name: str, paths: list[str]) -> PackageFacts:
    return combine(name, await asyncio.gather(*(index_file.submit(job, path) for path in paths)))


@workflow
async def index_library(job: Job) -> Report:
    found = await find_packages.submit(job)
    state["packages"], state["done"] = len(found), 0
    children = [index_package.options(id=f"{execution_id()}/{name}")(job, name, paths) for name, paths in found.items()]
    packages = []
    for child in asyncio.as_completed(children):
        packages.append(await child)
        state["done"] = len(packages)  # anyone can read it while the workflow runs
    return Report(sorted(packages, key=lambda package: package.name))
