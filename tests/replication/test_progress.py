"""Which commits are in the bucket: one question serves all who wait, and only an answer to it counts."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from perdure.replication import progress as module
from perdure.replication.control import ControlError, Positions
from perdure.replication.progress import Progress

Until = Callable[..., Any]


class Litestream:
    """Takes up whatever is committed when it is asked, and uploads when it is told to."""

    def __init__(self) -> None:
        self.commits = 0
        self.uploaded = 0
        self.asked = 0
        self.at_once = 0
        self.base = 0
        self.trouble: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self._running = 0

    def sync(self) -> Positions:
        self._running += 1
        self.at_once = max(self.at_once, self._running)
        self.asked += 1
        found = self.base + self.commits
        self.gate.wait(10)
        self._running -= 1
        if self.trouble is not None:
            raise self.trouble
        return Positions(found, min(self.base + self.uploaded, found))


@pytest.fixture
def litestream() -> Litestream:
    return Litestream()


def begin(litestream: Litestream, *, trusted: bool = True, interval_s: float = 0.01) -> Progress:
    made = Progress(asyncio.get_running_loop(), litestream.sync, lambda: time.time_ns() // 1000, interval_s=interval_s)
    if trusted:
        made.trust()
    return made


def commit(progress: Progress, litestream: Litestream) -> int:
    litestream.commits += 1
    return progress.commit()


async def test_one_question_serves_all_who_wait(litestream: Litestream, until: Until) -> None:
    progress = begin(litestream)
    await until(lambda: progress.arrived.is_set())
    litestream.gate.clear()
    asked = litestream.asked
    progress.look()
    await until(lambda: litestream.asked == asked + 1)
    waiting = []
    for _ in range(1_000):
        waiting.append(asyncio.ensure_future(progress.reached(commit(progress, litestream))))
        await asyncio.sleep(0)
    litestream.uploaded = litestream.commits
    litestream.gate.set()
    await asyncio.gather(*waiting)
    assert litestream.asked <= asked + 3  # that which was under way, and one after it
    assert litestream.at_once == 1
    progress.close()


async def test_nobody_is_answered_before_the_bucket_has_it(litestream: Litestream, until: Until) -> None:
    progress = begin(litestream)
    await until(lambda: progress.arrived.is_set())
    called: list[int] = []
    for _ in range(3):
        number = commit(progress, litestream)
        progress.when_replicated(number, lambda number=number: called.append(number))
        asked = litestream.asked
        await until(lambda asked=asked: litestream.asked > asked + 1)  # a question for each: a mark for each
    assert called == []
    assert progress.lag().commits == 3
    litestream.uploaded = 2
    await until(lambda: called == [1, 2])
    asked = litestream.asked
    await until(lambda: litestream.asked > asked + 2)
    assert called == [1, 2]
    litestream.uploaded = 3
    await until(lambda: called == [1, 2, 3])
    assert progress.lag()[:2] == (0, 0.0)
    progress.when_replicated(2, lambda: called.append(2))
    assert called[-1] == 2
    progress.close()


async def test_what_is_committed_while_it_is_asked_is_not_covered(litestream: Litestream, until: Until) -> None:
    progress = begin(litestream)
    await until(lambda: progress.arrived.is_set())
    first = commit(progress, litestream)
    litestream.gate.clear()
    asked = litestream.asked
    await until(lambda: litestream.asked == asked + 1)
    second = commit(progress, litestream)
    litestream.uploaded = 1
    done = asyncio.ensure_future(progress.reached(second))
    litestream.gate.set()
    await progress.reached(first)
    asked = litestream.asked
    await until(lambda: litestream.asked > asked + 1)
    assert not done.done()
    litestream.uploaded = 2
    await done
    progress.close()


async def test_lag_is_the_age_of_the_oldest_commit_that_is_not_there(litestream: Litestream, until: Until) -> None:
    now = 1_000_000_000
    progress = Progress(asyncio.get_running_loop(), litestream.sync, lambda: now, interval_s=0.01)
    progress.trust()
    await until(lambda: progress.arrived.is_set())
    assert progress.lag() == (0, 0.0, None)
    commit(progress, litestream)
    now += 2_000_000
    commit(progress, litestream)
    now += 1_000_000
    assert progress.lag() == (2, 3.0, None)
    asked = litestream.asked
    await until(lambda: litestream.asked > asked + 1)
    litestream.uploaded = 2
    await progress.reached()
    assert progress.lag() == (0, 0.0, 1_002_000_000)
    progress.close()


async def test_lost_answers_are_asked_for_again(
    litestream: Litestream, until: Until, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "LATER_S", 0.01)
    progress = begin(litestream)
    litestream.uploaded = 1
    for trouble in (ControlError("no answer"), RuntimeError("a fault of ours")):
        litestream.trouble = trouble
        asked = litestream.asked
        done = asyncio.ensure_future(progress.reached(commit(progress, litestream)))
        await until(lambda asked=asked: litestream.asked > asked + 2)
        assert trouble.args[0] in (progress.problem or "")
        assert not done.done()
        litestream.trouble = None
        litestream.uploaded = litestream.commits
        await done
        assert progress.problem is None
    progress.close()


@pytest.mark.parametrize("ending", [False, True])
async def test_no_answer_is_told_once_and_not_at_the_end(
    litestream: Litestream,
    until: Until,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    ending: bool,
) -> None:
    monkeypatch.setattr(module, "LATER_S", 0.01)
    progress = begin(litestream)
    litestream.commits = litestream.uploaded = 1
    progress.commit()
    await until(lambda: progress.arrived.is_set())
    progress.ending = ending
    litestream.trouble = ControlError("no answer")
    progress.commit()
    asked = litestream.asked
    await until(lambda: litestream.asked > asked + 2)
    assert [record.message for record in caplog.records if "not known" in record.message] == (
        [] if ending else ["what is in the bucket is not known for now: no answer"]
    )
    progress.close()


async def test_numbers_of_another_litestream_do_not_count(litestream: Litestream, until: Until) -> None:
    """Its numbers may be those of an earlier one, with other content behind them."""
    progress = begin(litestream)
    await until(lambda: progress.arrived.is_set())
    commit(progress, litestream)
    asked = litestream.asked
    await until(lambda: litestream.asked > asked + 1)  # its number for this commit is known now: 1
    litestream.gate.clear()
    asked = litestream.asked
    progress.look()
    await until(lambda: litestream.asked == asked + 1)
    litestream.uploaded = 1  # the old one's answer is under way, and says that all is there
    progress.restarted()
    litestream.base, litestream.uploaded = 100, -1
    done = asyncio.ensure_future(progress.reached())
    litestream.gate.set()
    await until(lambda: litestream.asked > asked + 3)
    assert not done.done()
    litestream.uploaded = 1
    await done
    progress.close()


async def test_nothing_counts_before_the_path_is_the_truth(litestream: Litestream, until: Until) -> None:
    """A restore would not look there."""
    progress = begin(litestream, trusted=False)
    litestream.uploaded = 1
    done = asyncio.ensure_future(progress.reached(commit(progress, litestream)))
    await progress.arrived.wait()
    asked = litestream.asked
    await until(lambda: litestream.asked > asked + 2)
    assert not done.done()
    assert progress.replicated < 0
    progress.trust()
    await done
    progress.close()


async def test_what_was_there_before_counts_once_all_of_it_is_there(litestream: Litestream, until: Until) -> None:
    progress = begin(litestream, trusted=False)
    called: list[int] = []
    progress.when_replicated(0, lambda: called.append(0))
    await until(lambda: progress.arrived.is_set())
    assert called == []
    assert progress.lag() == (0, 0.0, None)
    progress.trust()
    await until(lambda: called == [0])
    assert progress.lag() == (0, 0.0, None)
    progress.close()


async def test_a_commit_may_be_noted_by_another_thread(litestream: Litestream) -> None:
    """The watchdog commits while user code blocks the loop."""
    asyncio.get_running_loop().set_debug(True)  # it raises when it is used from the wrong thread
    progress = begin(litestream)
    for number in range(1, 20):
        litestream.commits = litestream.uploaded = number
        assert await asyncio.to_thread(progress.commit) == number
    await progress.reached()
    assert progress.lag()[:2] == (0, 0.0)
    progress.close()


async def test_it_says_up_to_when_everything_of_anyone_is_there(litestream: Litestream, until: Until) -> None:
    progress = begin(litestream)
    told: list[float] = []
    progress.on_reached = lambda: told.append(progress.covers)
    before = time.monotonic()
    litestream.commits = litestream.uploaded = 5  # of other processes: nothing was committed here
    progress.look()
    await until(lambda: told and told[-1] > before)
    assert told[-1] <= time.monotonic()
    progress.close()


async def test_at_rest_it_asks_nothing(litestream: Litestream, until: Until) -> None:
    progress = begin(litestream)
    litestream.uploaded = 1
    await progress.reached(commit(progress, litestream))
    await until(lambda: progress._next is None and progress._asking is None)
    assert progress._marks == progress._waiting == progress._open == type(progress._open)()
    progress.close()


async def test_after_closing_nothing_is_called(litestream: Litestream, until: Until) -> None:
    progress = begin(litestream)
    litestream.gate.clear()
    called: list[int] = []
    progress.when_replicated(commit(progress, litestream), lambda: called.append(1))
    await until(lambda: litestream.asked > 0)
    litestream.uploaded = 1
    progress.close()
    litestream.gate.set()
    progress.commit()
    await until(lambda: not any(thread.is_alive() for thread in progress._thread._threads))
    await asyncio.sleep(0)
    assert called == []
