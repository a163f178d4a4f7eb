"""Every example, run as its docstring says: to its end, and killed with `kill -9` and run again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from perdure import Client

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def command(example: str, database: Path, *arguments: str) -> list[str]:
    return [sys.executable, str(EXAMPLES / f"{example}.py"), str(database), *arguments]


def run(example: str, database: Path, *arguments: str) -> list[str]:
    """Run an example to its end; give the lines that it printed."""
    done = subprocess.run(command(example, database, *arguments), capture_output=True, text=True, timeout=60)
    print(done.stdout, done.stderr)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


class Running:
    """An example in progress."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def until(self, *wanted: str) -> None:
        """Read what it prints until each of `wanted` was in a line."""
        assert self.process.stdout is not None
        missing = set(wanted)
        while missing:
            line = self.process.stdout.readline()
            assert line, f"it ended without {missing}; it printed {self.lines}"
            self.lines.append(line.rstrip("\n"))
            missing = {text for text in missing if text not in line}

    def kill(self) -> list[str]:
        """Kill it with SIGKILL; give all that it printed."""
        self.process.kill()
        rest, _ = self.process.communicate(timeout=20)
        return self.lines + rest.splitlines()


@pytest.fixture
def begin() -> Iterator[Callable[..., Running]]:
    processes: list[subprocess.Popen[str]] = []

    def start(example: str, database: Path, *arguments: str) -> Running:
        process = subprocess.Popen(command(example, database, *arguments), stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return Running(process)

    yield start
    for process in processes:
        process.kill()
        process.communicate()


pytestmark = pytest.mark.slow


def count(lines: list[str], text: str) -> int:
    return sum(text in line for line in lines)


# --- order_saga -----------------------------------------------------------------------------------------------------


def check_orders(lines: list[str]) -> None:
    """Check what was printed from the start to the end, by one process or by several."""
    for order in ("order-1", "order-2", "order-3"):
        assert count(lines, f"{order}: charged") == 1
        assert count(lines, f"{order}: reserved") == 1
    assert "order-1: ended with parcel-of-order-1" in lines
    assert count(lines, "order-2: ended with parcel-of-order-2") == 1
    assert count(lines, "order-3: ended as rejected") == 1
    assert count(lines, "order-3: shipped") == 0
    released, refunded = lines.index("order-3: released a boat"), lines.index("order-3: refunded charge-order-3:1:2")
    assert released < refunded
    assert count(lines, "refunded") == 1


def test_order_saga_approves_rejects_and_compensates(database: Path) -> None:
    check_orders(run("order_saga", database))


def test_order_saga_charges_nobody_twice_when_it_is_killed(database: Path, begin: Callable[..., Running]) -> None:
    first = begin("order_saga", database, "--wait")
    first.until("order-1: ended", "order-2: waits for approval", "order-3: waits for approval")
    before = first.kill()
    assert count(before, "order-2: ended") == 0
    check_orders(before + run("order_saga", database))


def test_order_saga_run_again_after_the_end_only_prints_the_results(database: Path) -> None:
    first = run("order_saga", database)
    assert run("order_saga", database) == [line for line in first if "ended" in line]


# --- agent_loop -----------------------------------------------------------------------------------------------------


def test_agent_loop_uses_tools_and_asks_before_the_dangerous_one(database: Path) -> None:
    lines = run("agent_loop", database)
    asked = lines.index("agent: waits for a human: May I delete_file cache.tmp?")
    deleted = lines.index("tool:  deleted cache.tmp")
    assert asked < lines.index("human: yes to 'May I delete_file cache.tmp?'") < deleted
    assert lines[-1] == "agent: ended with: Done: the cache is gone, your thesis is still there."
    assert [path.name for path in database.with_suffix(".files").iterdir()] == ["thesis.txt"]


def test_agent_loop_goes_on_with_its_conversation_when_it_is_killed(
    database: Path, begin: Callable[..., Running]
) -> None:
    first = begin("agent_loop", database, "--wait")
    first.until("agent: waits for a human")
    before = first.kill()
    after = run("agent_loop", database)
    model = [line for line in before + after if line.startswith("model:")]
    assert len(model) == len(set(model)) == 6
    assert count(before, "model:") == 4
    assert count(before + after, "tool:  deleted") == 1


def test_agent_loop_takes_the_answer_of_another_process(database: Path, begin: Callable[..., Running]) -> None:
    first = begin("agent_loop", database, "--wait")
    first.until("agent: waits for a human")
    assert run("agent_loop", database, "--answer", "no") == ["human: no to 'May I delete_file cache.tmp?'"]
    first.until("agent: ended with: I was not allowed to delete anything")
    assert run("agent_loop", database, "--answer", "no") == ["there is no question that waits for an answer"]


async def test_agent_loop_takes_an_answer_while_it_is_dead(
    database: Path, begin: Callable[..., Running], until: Callable[..., object]
) -> None:
    first = begin("agent_loop", database, "--wait")
    first.until("agent: waits for a human")
    async with Client(database) as client:

        async def deferred() -> bool:
            return any([event.kind == "attempt_deferred" async for event in client.execution("agent").history()])

        await until(deferred)
    first.kill()
    assert count(run("agent_loop", database, "--answer", "yes"), "human: yes") == 1
    after = run("agent_loop", database, "--wait")  # nobody else answers
    assert after[0] == "tool:  deleted cache.tmp"


# --- polling_monitor ------------------------------------------------------------------------------------------------

CHANGES = ["nothing -> starting", "starting -> up", "up -> down", "down -> up", "up -> gone"]


def test_polling_monitor_sees_every_change_with_a_short_history(database: Path) -> None:
    lines = run("polling_monitor", database)
    assert lines[: len(CHANGES)] == [f"monitor: {change}" for change in CHANGES]
    words = lines[-1].split()
    number, events = int(words[4].rstrip(",")), int(words[6])
    assert number > 1
    assert events < 60


def test_polling_monitor_knows_what_it_saw_when_it_is_killed(database: Path, begin: Callable[..., Running]) -> None:
    first = begin("polling_monitor", database)
    first.until("up -> down")
    both = first.kill() + run("polling_monitor", database)
    reported = [count(both, change) for change in CHANGES]
    assert reported[:2] == [1, 1]
    assert reported[2] in (1, 2)  # reported at the kill, so perhaps not recorded yet
    assert reported[4] == 1


# --- def_workflow ---------------------------------------------------------------------------------------------------

RESULT = "ended with 156 in 3 sources"


def test_def_workflow_runs_to_its_end(database: Path) -> None:
    lines = run("def_workflow", database)
    assert sorted(lines[:3]) == ["fetched customers", "fetched orders", "fetched returns"]
    assert lines[3:7] == ["cleaned customers", "cleaned orders", "cleaned returns", "loaded 11 rows"]
    assert lines[7].startswith(RESULT)


def test_def_workflow_fetches_nothing_twice_when_it_is_killed(database: Path, begin: Callable[..., Running]) -> None:
    first = begin("def_workflow", database)
    first.until("cleaned orders")
    both = first.kill() + run("def_workflow", database)
    for step in ("fetched customers", "fetched orders", "cleaned customers", "loaded 11 rows"):
        assert count(both, step) == 1
    assert both[-1].startswith(RESULT)
