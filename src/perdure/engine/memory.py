"""Which executions are in memory: found, loaded from their history, added, evicted, dropped after a fault.

Running executions stay; waiting ones are kept while there is room (`hot`), the least recently used go first.
Whatever is not in memory is made again from its log.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from perdure.codec.payload import DecodeError
from perdure.engine import loading
from perdure.engine.attempt import Attempt, Phase
from perdure.engine.inputs import Begin
from perdure.engine.live import Live
from perdure.errors import NonDeterminismError, PerdureError, StoreError, UnknownWorkflow
from perdure.events import Event
from perdure.replay import Run
from perdure.store import ExecutionRow, Purpose
from perdure.types import Status

if TYPE_CHECKING:
    from perdure.engine.runner import Runner


logger = logging.getLogger("perdure.runner")


class Memory:
    """Part of the runner: `runner.work` is the batch in the making."""

    def __init__(self, runner: Runner, hot: int) -> None:
        self.runner = runner
        self.hot = hot
        self.lives: dict[str, Live] = {}
        """Executions in memory, by id."""
        self.idle: dict[str, Live] = {}
        """Those of them that only wait, least recently used first: candidates for eviction."""
        self.salvaged: dict[str, dict[int, tuple[int, Attempt]]] = {}
        """Running attempts of executions that were dropped: by id, then seq, (number, attempt)."""
        self.poisoned: dict[str, PerdureError] = {}
        """Executions on which the runner itself failed, by id: they are set aside, so that the others go on."""

    # --- finding ----------------------------------------------------------------------------------------------------

    def live(self, row: ExecutionRow) -> Live | None:
        """Give an open execution, loading it if need be; None when it has ended. It counts as touched by the batch."""
        runner = self.runner
        live = self.lives.get(row.id)
        if live is None:
            if row.id in runner.work.closed:
                return None
            current = runner.store.get(row.num)
            if current is None or current.status.closed:
                return None
            live = self._load(current)
            if live.first and not live.held:
                runner.run_first(live)  # what is noted of its attempts comes after it in the log
            self._take_up(live)
        elif live.row is not row and (live.row.run != row.run or 0 < live.row.num != row.num > 0):
            return None
        runner.work.touched[live] = None
        if live.first and not live.held:
            runner.run_first(live)
        return live if self.lives.get(row.id) is live else None  # its first code may have been its last

    def continuation(self, row: ExecutionRow) -> Live | None:
        """Give the open run that `row` was continued as; None when there is none."""
        stored = self.runner.store.get(row.num) or row
        newest = self.find(row.id)
        ended = stored.status.closed and stored.status is not Status.CONTINUED
        if ended or newest is None or newest.run <= row.run:
            return None
        return self.live(newest)

    def find(self, id: str) -> ExecutionRow | None:
        """Give the newest run with this id as this batch sees it."""
        return self.known(id) or self.runner.store.find(id)

    def known(self, id: str) -> ExecutionRow | None:
        """Give it if it is in memory or ended in this batch, without looking into the file."""
        live = self.lives.get(id)
        if live is not None:
            return live.row
        closed = self.runner.work.closed.get(id)
        return None if closed is None else closed[0]

    def by_num(self, num: int) -> ExecutionRow | None:
        """Give a row by its key, the very object that is in memory if there is one."""
        row = self.runner.store.get(num)
        if row is not None:
            live = self.lives.get(row.id)
            if live is not None and live.row.num == num:
                return live.row
        return row

    def is_stray(self, row: ExecutionRow) -> bool:
        """Say whether another run of the same id is in memory although this one is open in the file: only something
        else than perdure writes that."""
        live = self.lives.get(row.id)
        if live is None or live.row.num in (0, row.num) or row.num == 0:
            return False
        stored = self.runner.store.get(row.num)
        return stored is not None and not stored.status.closed

    # --- coming -----------------------------------------------------------------------------------------------------

    def add(self, row: ExecutionRow, events: list[Event]) -> Live:
        """Bring a new execution into the batch and into memory. Its code runs when something reaches it."""
        runner = self.runner
        run = Run(runner.registry.get(row.workflow), row.id, row.run, runner.max_bytes)
        self.poisoned.pop(row.id, None)  # both were of another run
        self.salvaged.pop(row.id, None)
        live = self.lives[row.id] = Live(row, run)
        live.last_at = runner.now
        live.first = events
        runner.work.touched[live] = None
        runner.work.batch.executions.append(row)
        runner.work.batch.events.extend((row, event) for event in events)
        if row.deadline_at is not None:
            runner.work.batch.timers[(row, row.deadline_at, 0, Purpose.DEADLINE)] = None
        return live

    def _load(self, row: ExecutionRow) -> Live:
        runner = self.runner
        try:
            if row.id in self.poisoned:
                return self._blocked(row, self.poisoned[row.id])
            live, first = loading.load(runner.store, row, runner.registry.get(row.workflow), runner.max_bytes)
        except (NonDeterminismError, UnknownWorkflow, DecodeError) as error:
            return self._blocked(row, error)
        except StoreError:
            raise
        except Exception as error:
            return self._blocked(row, self.poison(row.id, error))
        self.lives[row.id] = live
        runner.work.touched[live] = None
        self._adopt(live)
        if live.run is not None and live.run.closing is not None:  # only if someone else wrote to our tables
            logger.warning("%s: its history has ended but its row said %s; put right", row.id, row.status)
            runner.commands.close_as_recorded(live)
            return live
        if row.status is Status.BLOCKED:
            row.problem = None
            runner.set_status(live, Status.PAUSED if live.paused_at is not None else Status.RUNNING)
        live.first = first
        if first and row.deployment is None:
            row.deployment = runner.deployment  # it begins here; the client that created it named none
        if first and row.deadline_at is not None:  # another process may have created it, and set no timers
            runner.work.batch.timers[(row, row.deadline_at, 0, Purpose.DEADLINE)] = True
        return live

    def poison(self, id: str, error: Exception) -> PerdureError:
        """Set an execution aside from now on; give the reason."""
        private = self.runner.private  # then what an error says must not be shown
        logger.error("the runner failed on %s; please report this", id, exc_info=None if private else error)
        text = type(error).__name__ if private else f"{type(error).__name__}: {error}"
        self.poisoned[id] = reason = Poisoned(f"the runner failed on {id}: {text}")
        return reason

    def _take_up(self, live: Live) -> None:
        """Give an execution that was just loaded what waited for it, and start what should be running in it, before
        anything else reaches it."""
        if live.held:
            if live.before is Status.BLOCKED:
                self.runner.outcomes.arm_totals(live)
            return
        if live.before is Status.BLOCKED:
            self.runner.arrivals.unpark(live)
        if self.lives.get(live.row.id) is live and live.before is not Status.WAITING:
            self.runner.outcomes.recovered(live, live.before)

    def _blocked(self, row: ExecutionRow, error: PerdureError) -> Live:
        """Bring an execution into memory that cannot go on."""
        for _, running in self.salvaged.pop(row.id, {}).values():
            running.abandon()
        live = self.lives[row.id] = Live(row, None)
        self.runner.work.touched[live] = None
        self.runner.block(live, error)
        return live

    def _adopt(self, live: Live) -> None:
        """Give a loaded execution back the attempts that went on while it was not in memory."""
        for seq, (number, running) in self.salvaged.pop(live.row.id, {}).items():
            attempt = live.attempts.get(seq)
            if attempt is not None and attempt.number == number:
                running.stand_in(attempt)
                live.attempts[seq] = running
            else:
                running.abandon()

    # --- going ------------------------------------------------------------------------------------------------------

    def used(self, live: Live) -> None:
        """Put an execution into its place in the order of use. While attempts run, also of a paused one, it stays."""
        self.idle.pop(live.row.id, None)
        status = live.status() if live.row.status is Status.PAUSED else live.row.status
        if status is not Status.RUNNING:
            self.idle[live.row.id] = live

    def evict_idle(self) -> None:
        while len(self.lives) > self.hot and self.idle:
            self.evict(next(iter(self.idle.values())))

    def evict(self, live: Live) -> None:
        """Drop an execution from memory; nothing of it is lost."""
        self.remove(live)
        if live.run is not None:
            live.run.evict()

    def remove(self, live: Live) -> None:
        if self.lives.get(live.row.id) is live:
            del self.lives[live.row.id]
        self.idle.pop(live.row.id, None)

    def drop(self, live: Live) -> None:
        """Drop an execution whose memory ran ahead of the disk; its running attempts go on and are given back later."""
        for attempt in live.attempts.values():
            self.salvage(attempt)
        self.evict(live)
        if live.row.num:
            self.runner.inputs.append(Begin(live.row))

    def salvage(self, attempt: Attempt) -> None:
        """Keep an attempt that runs until its execution is loaded again."""
        if attempt.phase is Phase.RUNNING:
            self.salvaged.setdefault(attempt.live.row.id, {})[attempt.seq] = (attempt.number, attempt)


class Poisoned(PerdureError):
    """The runner failed on an execution in a way that nobody foresaw."""

    hint = "this is a bug in perdure: please report it. The other executions go on; a restart tries this one again"
