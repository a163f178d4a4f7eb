"""What is done to the processes of a site in each round, at a random moment of their work."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection

from crash_site import PATIENCE_S, Failed, Process, Site

LONGEST_S = 0.7
"""The random time that they work before harm is done."""


class Harm:
    """Keeps two workers and an asker running, and does them harm."""

    def __init__(self, site: Site, only: Collection[str] = ()) -> None:
        self.site = site
        self.only = only
        """Kinds of harm, by the names of their methods; empty: all of them."""
        self.choose = site.choose
        self.takeovers = 0
        """How often another worker than before had the lock after a round."""
        self._runner: int | None = None
        self._coming: list[Process] = []
        """Processes that may not be open yet."""

    def begin(self) -> None:
        """Start with a file that is there: a client needs one."""
        first = self.site.spawn("worker")
        self.site.ready(first)
        self._replace()

    def do(self) -> None:
        """Let them work for a random time, do one kind of harm, and replace what is gone."""
        kinds: dict[Callable[[], None], float] = {
            self.kill_runner: 6,
            self.kill_standby: 1.5,
            self.kill_workers: 3,
            self.kill_coming: 2,
            self.kill_everyone: 1,
            self.kill_asker: 1.5,
            self.stop_for_a_moment: 1,
            self.stop_and_kill: 1,
            self.steal_lock: 1,
            self.end_in_order: 1.5,
        }
        kinds = {kind: weight for kind, weight in kinds.items() if not self.only or kind.__name__ in self.only}
        harm = self.choose.choices(list(kinds), list(kinds.values()))[0]
        if harm != self.kill_coming:
            self._wait_for_coming()
        self.site.pass_time(self.choose.uniform(0, LONGEST_S))
        harm()
        if self.choose.random() < 0.3:
            self.site.pass_time(self.choose.uniform(0, 0.2))  # with fewer of them, or none
        self._replace()
        self._count_takeover()

    def _wait_for_coming(self) -> None:
        for process in self._coming:
            if process in self.site.processes:
                self.site.ready(process)
        self._coming = []

    def _replace(self) -> None:
        wanted = 3 if self.choose.random() < 0.15 else 2
        while len(self.site.workers) < wanted:
            options = ["idle"] if self.choose.random() < 0.3 else []
            self._coming.append(self.site.spawn("worker", *options))
        if not self.site.askers:
            self._coming.append(self.site.spawn("asker"))

    def _count_takeover(self) -> None:
        runner = self.site.runner()
        if runner is not None and runner.pid != self._runner:
            self.takeovers += self._runner is not None
            self._runner = runner.pid

    def _wait_for_runner(self, other_than: Process | None = None) -> Process | None:
        """Wait until someone has the lock; None when nobody is there to take it."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            if not [worker for worker in self.site.workers if worker is not other_than]:
                return None
            runner = self.site.runner()
            if runner is not None and runner is not other_than:
                return runner
            self.site.pass_time(0.005)
        raise Failed(f"nobody takes over\n{self.site.log_end()}")

    # --- kinds of harm ------------------------------------------------------------------------------------------------

    def kill_runner(self) -> None:
        """The other one takes over."""
        runner = self._wait_for_runner()
        if runner is not None:
            self.site.kill(runner)
            if self.choose.random() < 0.5:
                self._wait_for_runner()

    def kill_standby(self) -> None:
        runner = self.site.runner()
        standbys = [worker for worker in self.site.workers if worker is not runner]
        if standbys:
            self.site.kill(self.choose.choice(standbys))

    def kill_workers(self) -> None:
        """All at once: for a while nobody runs anything, and the asker goes on."""
        self.site.kill(*self.site.workers)

    def kill_coming(self) -> None:
        """While it opens the file or recovers."""
        coming = [process for process in self._coming if process in self.site.processes]
        if coming:
            self.site.kill(self.choose.choice(coming))
        else:
            self.kill_workers()

    def kill_everyone(self) -> None:
        self.site.kill(*self.site.processes)

    def kill_asker(self) -> None:
        if self.site.askers:
            self.site.kill(*self.site.askers)

    def stop_for_a_moment(self) -> None:
        """The machine is busy elsewhere: nobody may take over, and time goes on."""
        stopped = self.choose.choice(self.site.processes)
        self.site.stop(stopped)
        self.site.pass_time(self.choose.uniform(0, 0.8))
        self.site.go_on(stopped)

    def stop_and_kill(self) -> None:
        stopped = self._wait_for_runner()
        if stopped is not None:
            self.site.stop(stopped)
            self.site.pass_time(self.choose.uniform(0, 0.3))
            self.site.kill(stopped)

    def steal_lock(self) -> None:
        """The lock file is deleted while the runner is stopped: another one takes over, and what the first one still
        writes when it goes on must be refused."""
        runner = self._wait_for_runner()
        if runner is None or len(self.site.workers) < 2:
            return
        epoch = self.site.epoch()
        self.site.stop_between_transactions(runner)
        self.site.steal_lock(runner)
        self._wait_for_runner(other_than=runner)
        self.site.pass_time(self.choose.choice([0, self.choose.uniform(0, 0.3)]))
        self.site.go_on(runner)
        deadline = time.monotonic() + PATIENCE_S
        while self.site.epoch() == epoch:  # until then it may go on
            if time.monotonic() > deadline:
                raise Failed(f"nobody becomes the runner\n{self.site.log_end()}")
            self.site.pass_time(0.005)
        self.site.is_replaced()
        self.site.pass_time(self.choose.uniform(0, 0.3))

    def end_in_order(self) -> None:
        """A new version is rolled out."""
        runner = self._wait_for_runner()
        if runner is not None:
            self.site.end(runner)
