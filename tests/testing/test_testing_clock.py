"""Virtual time: the clock and the loop."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from perdure.testing.clock import START, NothingLeft, VirtualClock, VirtualLoop

MONTH_S = 30 * 86_400.0


def a_process_ends() -> None:
    """Something real, that takes a while."""
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def loop(clock: VirtualClock) -> Iterator[VirtualLoop]:
    loop = VirtualLoop(clock)
    yield loop
    loop.close()


def test_the_clock_moves_only_when_it_is_told_to(clock):
    before = clock.now_us()
    clock.advance(1.5)
    assert (clock.now_us() - before, clock.monotonic()) == (1_500_000, 1.5)


def test_a_jump_moves_the_wall_clock_alone_and_may_go_back(clock):
    clock.advance(10)
    clock.jump(-3600)
    assert clock.monotonic() == 10
    assert clock.now_us() == VirtualClock().now_us() + 10_000_000 - 3_600_000_000


def test_time_does_not_pass_backwards(clock):
    with pytest.raises(ValueError, match="jump"):
        clock.advance(-1)


def test_a_month_of_sleep_takes_no_real_time(loop, clock):
    began = time.monotonic()
    loop.run_until_complete(asyncio.sleep(MONTH_S))
    assert clock.monotonic() == MONTH_S
    assert time.monotonic() - began < MONTH_S / 1000


def test_timers_fire_in_the_order_of_their_instants_at_exactly_those(loop, clock):
    seen = []
    for delay in (0.3, 0.1 + 0.2, 7.0, 0.1, 86_400.0):
        loop.call_later(delay, lambda delay=delay: seen.append((delay, clock.monotonic())))
    loop.run_until_complete(asyncio.sleep(100_000))
    assert [delay for delay, _ in seen] == [0.1, 0.3, 0.1 + 0.2, 7.0, 86_400.0]
    assert all(abs(delay - at) <= 1e-6 for delay, at in seen)


@pytest.mark.parametrize("seconds", [250_000_000_000.123, 8e9 + 1 / 3, 1e-9, 123.4567891])
def test_far_and_odd_instants_are_reached(loop, clock, seconds):
    loop.run_until_complete(asyncio.sleep(seconds))
    assert clock.monotonic() == pytest.approx(seconds, rel=1e-12, abs=1e-6)


def test_what_can_never_come_is_an_error_and_no_hang(loop):
    with pytest.raises(NothingLeft):
        loop.run_until_complete(loop.create_future())


def test_a_cancelled_timer_is_not_waited_for(loop, clock):
    loop.call_later(5, lambda: None).cancel()
    loop.run_until_complete(asyncio.sleep(10))
    handle = loop.call_later(5, lambda: None)
    loop.on_quiet = handle.cancel
    with pytest.raises(NothingLeft):
        loop.run_until_complete(loop.create_future())
    assert clock.monotonic() == 10


def test_running_what_is_ready_lets_no_time_pass(loop, clock):
    seen = []

    async def work() -> None:
        for number in range(3):
            await asyncio.sleep(0)
            seen.append(number)
        await asyncio.sleep(1)
        seen.append("late")

    task = loop.create_task(work())
    loop.run_ready()
    assert (seen, clock.monotonic()) == ([0, 1, 2], 0)
    loop.run_until_complete(task)
    assert (seen[-1], clock.monotonic()) == ("late", 1)


def test_what_on_quiet_makes_ready_runs_before_time_passes(loop, clock):
    seen = []

    def quiet() -> None:
        if not seen:
            loop.call_soon(lambda: seen.append(clock.monotonic()))

    loop.on_quiet = quiet
    loop.run_until_complete(asyncio.sleep(1))
    assert seen == [0]


def test_on_advance_hears_of_each_step_of_the_clock(loop, clock):
    steps = []
    loop.on_advance = lambda: steps.append(clock.monotonic())
    for delay in (1, 2, 2, 5):
        loop.call_later(delay, lambda: None)
    loop.run_until_complete(asyncio.sleep(5))
    assert steps == [1, 2, 5]


def test_a_thread_takes_no_virtual_time(loop, clock):
    async def main() -> str:
        late = asyncio.create_task(asyncio.sleep(3600, "the timer"))
        answer = asyncio.create_task(asyncio.to_thread(a_process_ends))
        done, _ = await asyncio.wait({late, answer}, return_when=asyncio.FIRST_COMPLETED)
        late.cancel()
        return "the thread" if answer in done else "the timer"

    assert loop.run_until_complete(main()) == "the thread"
    assert clock.monotonic() == 0


def test_a_process_takes_no_virtual_time(loop, clock):
    async def main() -> bytes:
        async with asyncio.timeout(3600):
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", "print('done')", stdout=subprocess.PIPE
            )
            output, _ = await process.communicate()
            return output

    assert loop.run_until_complete(main()) == b"done\n"
    assert clock.monotonic() == 0


def test_a_held_loop_waits_for_the_thread_that_holds_it(loop, clock):
    future = loop.create_future()
    held = threading.Event()

    def elsewhere() -> None:
        with loop.hold():
            held.set()
            a_process_ends()
            loop.call_soon_threadsafe(future.set_result, "done")

    thread = threading.Thread(target=elsewhere)
    thread.start()
    held.wait()
    loop.call_later(60, lambda: None)
    assert loop.run_until_complete(future) == "done"
    thread.join()
    assert clock.monotonic() == 0


def test_time_goes_on_when_something_real_does_not_answer(clock):
    loop = VirtualLoop(clock, patience_s=0.01)
    with loop.hold():
        loop.run_until_complete(asyncio.sleep(3600))
    assert clock.monotonic() == 3600
    loop.close()


def test_a_busy_loop_waits_too(clock):
    answered = []
    loop = VirtualLoop(clock, busy=lambda: not answered)
    future = loop.create_future()

    def answer() -> None:
        answered.append(True)
        future.set_result(None)

    def elsewhere() -> None:
        a_process_ends()
        loop.call_soon_threadsafe(answer)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    loop.call_later(60, lambda: None)
    loop.run_until_complete(future)
    thread.join()
    assert clock.monotonic() == 0
    loop.close()


async def test_it_runs_inside_another_loops_task(clock):
    loop = VirtualLoop(clock)
    loop.run_until_complete(asyncio.sleep(MONTH_S))
    loop.close()
    assert clock.monotonic() == MONTH_S
    assert asyncio.current_task() is not None
    await asyncio.sleep(0)


def test_the_same_program_ends_at_the_same_instant_each_time():
    def run() -> tuple[list[int], int]:
        clock, seen = VirtualClock(datetime(2026, 2, 28, tzinfo=UTC)), []

        async def worker(number: int) -> None:
            for step in range(5):
                await asyncio.sleep((number * 7 + step) % 4)
                seen.append(number)

        async def main() -> None:
            await asyncio.gather(*(worker(number) for number in range(10)))

        loop = VirtualLoop(clock)
        loop.run_until_complete(main())
        loop.close()
        return seen, clock.now_us()

    assert run() == run()
    assert START.tzinfo is not None


async def _sleep_and_note(delay_s, slept):
    await asyncio.sleep(delay_s)
    slept.append(delay_s)


def test_what_a_timer_wakes_runs_at_once_also_where_floats_do_not_add_up():
    for n in range(1, 200):
        clock, slept = VirtualClock(), []
        clock.advance(10 + n / 1000)
        loop = VirtualLoop(clock)
        task = loop.create_task(_sleep_and_note(3600 + n / 1000, slept))
        loop.run_ready()
        clock.advance(loop.next_at() - loop.time())
        loop.run_ready()
        assert slept, f"after {n} ms"
        assert task.done()
        loop.close()
