"""Activities that are programs: JSON on standard input, JSON on standard output, standard error as the log."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

import pytest

from perdure import Engine, Retry, activity, workflow
from perdure.errors import ActivityTimeout, ExecFailed, ExecutionCancelled, InvalidValue, PayloadTooLarge

ONCE = Retry(attempts=1)


@dataclass
class Order:
    id: str
    items: list[str]


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.fixture
def run_any(database):
    """Run one activity in a workflow of its own; give its result and the logs in the history."""

    async def run(act, *args, **engine_options):
        @workflow
        async def job():
            return await act.submit(*args)

        async with Engine(database, workflows=[job], **engine_options) as engine:
            execution = await engine.start(job, id="job")
            outcome = None
            try:
                outcome = await execution.result()
            except Exception as error:
                outcome = error
            return outcome, [event.value() async for event in execution.history() if event.kind == "attempt_log"]

    return run


TURN = """
import json, sys
order = json.load(sys.stdin)["order"]
print(json.dumps({"id": order["id"].upper(), "items": order["items"][::-1]}))
"""


@activity(exec=python(TURN))
def turn(order: Order) -> Order: ...


@workflow
async def turns(order: Order) -> Order:
    turned: Order = await turn.submit(order)
    assert isinstance(turned, Order)
    return turned


async def test_arguments_go_in_and_the_result_comes_out_as_json(database):
    async with Engine(database, workflows=[turns]) as engine:
        assert await (await engine.start(turns, Order("o-1", ["a", "b"]))).result() == Order("O-1", ["b", "a"])


async def test_the_program_knows_its_attempt(run_any):
    @activity(
        exec=python(
            "import json, os\n"
            "names = ('EXECUTION_ID', 'ATTEMPT', 'IDEMPOTENCY_KEY')\n"
            "print(json.dumps([os.environ['PERDURE_' + name] for name in names]))"
        )
    )
    def who() -> list[str]: ...

    assert (await run_any(who))[0] == ["job", "1", "job:1:2"]


async def test_standard_error_is_kept_in_the_history(run_any):
    @activity(exec=python("import sys; print('one\\ntwo', file=sys.stderr); print(1)"))
    def chatty() -> int: ...

    assert await run_any(chatty) == (1, ["one\ntwo\n"])


async def test_only_the_end_of_a_long_log_is_kept(run_any):
    @activity(exec=python("import sys; [print('line', i, file=sys.stderr) for i in range(100_000)]; print(1)"))
    def chatty() -> int: ...

    result, (log,) = await run_any(chatty)
    assert result == 1
    assert len(log) <= 8 * 1024
    assert log.endswith("line 99999\n")


async def test_a_status_other_than_zero_is_an_error_with_its_log(run_any):
    @activity(exec=python("import sys; print('disk on fire', file=sys.stderr); sys.exit(3)"), retry=ONCE)
    def bad() -> int: ...

    error, logs = await run_any(bad)
    assert isinstance(error, ExecFailed)
    assert "status 3" in str(error)
    assert error.returncode == 3
    assert error.stderr == "disk on fire\n"
    assert logs == ["disk on fire\n"]


async def test_a_failed_program_is_run_again(run_any, tmp_path):
    marker = tmp_path / "marker"

    @activity(
        exec=python(
            "import json, os, sys\n"
            "path = json.load(sys.stdin)['p']\n"
            "if not os.path.exists(path):\n"
            "    open(path, 'w')\n"
            "    sys.exit(1)\n"
            "print(os.environ['PERDURE_ATTEMPT'])"
        ),
        retry=Retry(initial_s=0),
    )
    def flaky(p: str) -> int: ...

    assert (await run_any(flaky, str(marker)))[0] == 2


async def test_a_missing_program_is_a_clear_error(run_any):
    @activity(exec=["/no/such/program"], retry=ONCE)
    def missing() -> int: ...

    error, _ = await run_any(missing)
    assert isinstance(error, ExecFailed)
    assert "/no/such/program could not be started" in str(error)


@pytest.mark.parametrize("printed", ["hello", "", "{'a': 1}", "1 2"])
async def test_output_that_is_not_json_is_a_clear_error_with_the_log(run_any, printed):
    @activity(exec=python(f"import sys; print('about to speak', file=sys.stderr); print({printed!r})"), retry=ONCE)
    def speak() -> int: ...

    error, logs = await run_any(speak)
    assert isinstance(error, InvalidValue)
    assert "activity speak" in str(error)
    assert "standard output" in str(error)
    assert logs == ["about to speak\n"]


async def test_output_of_the_wrong_type_is_a_clear_error(run_any):
    @activity(exec=python("print('[1, 2]')"), retry=ONCE)
    def count() -> int: ...

    error, _ = await run_any(count)
    assert isinstance(error, InvalidValue)
    assert "int" in str(error)


async def test_a_program_without_a_result_may_print_nothing(run_any):
    @activity(exec=python("pass"), retry=ONCE)
    def quiet() -> None: ...

    assert (await run_any(quiet))[0] is None


async def test_a_large_input_and_output_at_once(run_any):
    """A program that writes while it reads must not wait for us while we wait for it."""

    copy = "import sys\nfor part in iter(lambda: sys.stdin.read(1000), ''):\n    sys.stdout.write(part)"

    @activity(exec=python(copy), retry=ONCE, timeout_s=20)
    def echo(text: str) -> dict[str, str]: ...

    text = "x" * 3_000_000
    result, _ = await run_any(echo, text)
    assert result == {"text": text}


async def test_a_program_that_does_not_read_its_input(run_any):
    @activity(exec=python("print(7)"), retry=ONCE, timeout_s=20)
    def deaf(text: str) -> int: ...

    assert (await run_any(deaf, "x" * 1_000_000))[0] == 7


async def test_output_over_the_limit_is_a_clear_error(run_any):
    @activity(exec=python("print('\"' + 'x' * 5000 + '\"')"), retry=ONCE)
    def big() -> str: ...

    error, _ = await run_any(big, max_payload_bytes=4096)
    assert isinstance(error, PayloadTooLarge)


SLEEPS = """
import json, os, subprocess, sys
path = json.load(sys.stdin)["p"]
child = subprocess.Popen(["sleep", "60"])
with open(path + ".new", "w") as file:
    file.write(f"{os.getpid()} {child.pid}")
os.rename(path + ".new", path)
child.wait()
"""


async def test_cancelling_ends_the_program_and_what_it_started(database, tmp_path, until):
    path = tmp_path / "pids"

    @activity(exec=python(SLEEPS))
    def sleeps(p: str) -> int: ...

    @workflow
    async def job(p: str) -> int:
        return await sleeps.submit(p)

    async with Engine(database, workflows=[job]) as engine:
        execution = await engine.start(job, str(path))
        pids = [int(pid) for pid in (await until(lambda: path.exists() and path.read_text())).split()]
        await execution.cancel()
        with pytest.raises(ExecutionCancelled):
            await execution.result()
        await until(lambda: not any(alive(pid) for pid in pids))


async def test_a_program_over_its_time_is_ended(database, tmp_path, until):
    path = tmp_path / "pids"

    @activity(exec=python(SLEEPS), retry=ONCE, timeout_s=1)
    def sleeps(p: str) -> int: ...

    @workflow
    async def job(p: str) -> int:
        return await sleeps.submit(p)

    async with Engine(database, workflows=[job]) as engine:
        with pytest.raises(ActivityTimeout):
            await (await engine.start(job, str(path))).result()
        if path.exists():
            await until(lambda: not any(alive(int(pid)) for pid in path.read_text().split()))
