"""Keeps the engine going while user code blocks the event loop, and says whose code it is.

A thread asks the loop for a sign of life. When it does not answer, the thread names the activity that stands on the
loop in a warning, and drives the runner in the loop's place: timers fire, results of threads are taken, commits
happen. What belongs to the loop (coroutines of activities, `def` workflows) waits until it is back.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterable
from types import FrameType

from perdure.engine.attempt import Attempt
from perdure.engine.runner import Runner
from perdure.guard.origin import Origin, origin

logger = logging.getLogger("perdure.watchdog")

BLOCKED_AFTER_S = 0.25
STEP_S = 0.02
"""How often the runner is driven while the loop is blocked."""


class Watchdog:
    """See the module. `running` gives the attempts that may stand on the loop."""

    def __init__(self, runner: Runner, running: Callable[[], Iterable[Attempt]]) -> None:
        self.runner = runner
        self.running = running
        self._answered = threading.Event()
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="perdure-watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closed.set()
        if self._thread.is_alive():
            self._thread.join(timeout=1.0)

    def _watch(self) -> None:
        while not self._closed.wait(BLOCKED_AFTER_S):
            if not (self.runner.due or any(True for _ in self.running())):
                continue  # an idle engine is not to be woken for this
            self._answered.clear()
            try:
                self.runner.loop.call_soon_threadsafe(self._answered.set)
            except RuntimeError:  # the loop is closed
                return
            if not self._answered.wait(BLOCKED_AFTER_S) and not self._closed.is_set():
                self._stand_in()

    def _stand_in(self) -> None:
        """Warn once, then drive the runner until the loop answers."""
        began = time.monotonic()
        culprit = self._culprit()
        if culprit is not None:
            logger.warning("the event loop has not run for %.2f s: %s", BLOCKED_AFTER_S, culprit)
        while not self._answered.wait(STEP_S) and not self._closed.is_set():
            if self.runner.mutex.locked():
                continue  # workflow code or a commit is running there: that is what the loop is busy with
            try:
                self.runner.pump()
            except Exception:
                logger.exception("the runner failed while the event loop was blocked")
        if culprit is not None:
            logger.warning("the event loop was blocked for %.2f s", BLOCKED_AFTER_S + time.monotonic() - began)

    def _culprit(self) -> str | None:
        """Say what stands on the loop; None when it only had no processor time, or the runner itself is busy there."""
        codes = {attempt.activity_def.fn.__code__: attempt for attempt in list(self.running())}
        innermost: str | None = None
        frame: FrameType | None = sys._current_frames().get(self.runner.loop_thread)
        while frame is not None:
            code = frame.f_code
            place = f"{code.co_filename}:{frame.f_lineno}"
            if code in codes:
                attempt = codes[code]
                who = f"activity {attempt.activity} of execution {attempt.execution_id}"
                return f"{who} blocks it at {place}; make it a `def` activity: those run in threads"
            if code is Runner.pump.__code__:
                return innermost and f"workflow code at {innermost} has not come to rest"
            if innermost is None and origin(code.co_filename) is Origin.USER:
                innermost = place
            frame = frame.f_back
        return innermost and f"code at {innermost} blocks it"
