"""Replaying what was recorded in other interpreters, each with another `PYTHONHASHSEED`.

Sets of strings iterate in another order there. Code that depends on it fits its own history in the process that made
it, and in no other. As a program (`python -m perdure.testing.hash_seeds`) this module is that other interpreter: it
reads a `Task` as JSON on standard input and prints what does not fit.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import subprocess
import sys
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import msgspec

from perdure.engine.registry import AnyWorkflow, Registry
from perdure.guard import audit
from perdure.replay import current_run
from perdure.testing.recording import read_file, write_file
from perdure.testing.replay_report import Misfit, Mismatch
from perdure.testing.replaying import examine
from perdure.testing.subject import MAX_BYTES, Problem, Ran
from perdure.workflow import Workflow

PATIENCE_S = 120.0
MAIN = "__perdure_main__"


class Place(msgspec.Struct):
    """Where a workflow is defined."""

    module: str
    file: str
    name: str


class Task(msgspec.Struct):
    path: list[str]
    workflows: list[Place]
    files: list[str]
    """History files to replay."""


class Finding(msgspec.Struct):
    """The first mismatch of a history file, by its place in the task."""

    file: int
    text: str


class Unreachable(Exception):
    """Another interpreter cannot import the workflows; says why."""


def first_misfit(
    runs: Sequence[Ran], workflows: Iterable[AnyWorkflow], seeds: Iterable[int]
) -> tuple[Ran, Problem] | None:
    """Replay the histories of `runs` under each hash seed; give the first run that does not fit under one, with the
    problem. Raises `Unreachable`."""
    places = [_place(workflow) for workflow in workflows]
    with TemporaryDirectory(prefix="perdure-explore-") as folder:
        files = [str(Path(folder, f"{number}.jsonl")) for number in range(len(runs))]
        for file, ran in zip(files, runs, strict=True):
            write_file(Path(file), ran.recorded)
        task = msgspec.json.encode(Task([path or os.getcwd() for path in sys.path], places, files))
        started = [(seed, _start(seed)) for seed in seeds]
        answers = [(seed, _answer(process, task)) for seed, process in started]
    found = [(finding.file, seed, finding) for seed, findings in answers for finding in findings]
    if not found:
        return None
    first, seed, finding = min(found, key=lambda one: one[:2])
    message = f"under PYTHONHASHSEED={seed} the code does not fit the history that it made here\n{finding.text}"
    return runs[first], Problem("hash seed", message)


def _place(workflow: AnyWorkflow) -> Place:
    fn = workflow.fn
    module = sys.modules.get(fn.__module__)
    file = getattr(module, "__file__", None)
    if module is None or file is None or "<locals>" in fn.__qualname__:
        raise Unreachable(f"{fn.__qualname__} is not at the top level of a module that can be imported")
    return Place(fn.__module__, os.path.abspath(file), fn.__qualname__)


def _start(seed: int) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONHASHSEED": str(seed), "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    command = [sys.executable, "-W", "ignore", "-m", "perdure.testing.hash_seeds"]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _answer(process: subprocess.Popen[bytes], task: bytes) -> list[Finding]:
    try:
        out, err = process.communicate(task, PATIENCE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise Unreachable(f"another interpreter did not answer within {PATIENCE_S:g} s") from None
    if process.returncode != 0:
        raise Unreachable(f"another interpreter failed: {err.decode(errors='replace').strip().splitlines()[-1:]}")
    return msgspec.json.decode(out, type=list[Finding])


# --- the other interpreter ------------------------------------------------------------------------------------------


def main() -> None:
    task = msgspec.json.decode(sys.stdin.buffer.read(), type=Task)
    answer, sys.stdout = sys.stdout, sys.stderr  # what the user's code prints is no answer
    sys.path[:] = task.path
    warnings.simplefilter("ignore")
    audit.install(current_run)
    registry = Registry([_workflow(place) for place in task.workflows])
    findings = []
    for number, file in enumerate(task.files):
        found = [examine(recording, registry, MAX_BYTES) for recording in read_file(Path(file))]
        first = next((one for one in found if one is not None and _counts(one)), None)
        if first is not None:
            findings.append(Finding(number, str(first)))
    answer.buffer.write(msgspec.json.encode(findings))


def _counts(found: Mismatch) -> bool:
    return found.what in (Misfit.MISMATCH, Misfit.VALUE)


def _workflow(place: Place) -> AnyWorkflow:
    found: object = functools.reduce(getattr, place.name.split("."), _module(place))
    if not isinstance(found, Workflow):
        raise SystemExit(f"{place.name} of {place.file} is not a workflow")
    return found


def _module(place: Place) -> ModuleType:
    name = MAIN if place.module == "__main__" else place.module  # as in multiprocessing: `if __name__ == …` stays out
    if name in sys.modules:
        return sys.modules[name]
    if name != MAIN:
        try:
            module = importlib.import_module(name)
        except ImportError:
            pass
        else:
            if getattr(module, "__file__", None) == place.file:
                return module
    spec = importlib.util.spec_from_file_location(name, place.file)
    if spec is None or spec.loader is None:
        raise SystemExit(f"{place.file} cannot be imported")
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    main()
