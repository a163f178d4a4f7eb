"""The runner: the one writer that advances the executions of a file.

1. Inputs are handled in order. Each is one event, applied to its execution's code; the commands that come back are
   carried out.
2. A batch of inputs is one transaction. What executions tell each other (a child's end, a signal) is in the same one.
3. Effects (starting an attempt, answering a caller) happen after the commit of the events that led to them, never
   before.
4. When a commit fails, memory that ran ahead is dropped and built again from the log; outcomes of attempts are kept
   and handled again.
5. `pump` may run on the loop's thread or, while user code blocks that, on the watchdog's; a mutex keeps them apart.
   Code of `def` workflows belongs to the loop's thread and waits for it.

    inputs ──▶ handle ──▶ Work(batch, effects) ──▶ store.commit ──▶ effects
       ▲                                              │ failed
       └──────── outcomes, begins ◀── drop memory ◀───┘
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, assert_never

from perdure.engine import loading
from perdure.engine.attempt import Attempt, Phase
from perdure.engine.commands import Commands
from perdure.engine.inputs import AttemptDone, Begin, Deliver, Input, Request, Start, TransactionDue
from perdure.engine.live import Live
from perdure.engine.outcomes import Outcomes
from perdure.engine.registry import Registry
from perdure.engine.requests import Requests
from perdure.engine.work import Work
from perdure.errors import (
    EngineClosed,
    ExecutionClosed,
    InternalError,
    NonDeterminismError,
    PerdureError,
    StoreError,
    UnknownWorkflow,
)
from perdure.events import Event, Kind
from perdure.replay import Run
from perdure.store import ExecutionRow, Parked, Purpose, Store, TimerRow
from perdure.types import Status

logger = logging.getLogger("perdure.runner")

BATCH_INPUTS = 2_000
BATCH_TIMERS = 1_000
FAULT_WAIT_S = (0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 5.0)


class Runner:
    """See the module. `now` gives microseconds since 1970; `start` and `stop` let attempts run; `on_closed` hears
    of ends."""

    def __init__(
        self,
        store: Store,
        registry: Registry,
        *,
        now: Callable[[], int],
        loop: asyncio.AbstractEventLoop,
        start: Callable[[Attempt], None],
        on_closed: Callable[[dict[str, tuple[ExecutionRow, Event | None]]], None],
        on_fault: Callable[[BaseException], None],
        draw: Callable[[], float],
        max_bytes: int,
        hot: int = 10_000,
        deployment: str | None = None,
    ) -> None:
        self.store = store
        self.registry = registry
        self.clock = now
        self.loop = loop
        self.loop_thread = threading.get_ident()
        self.start_attempt = start
        self.on_closed = on_closed
        self.on_fault = on_fault
        self.draw = draw
        self.max_bytes = max_bytes
        self.hot = hot
        self.deployment = deployment
        self.inputs: deque[Input] = deque()
        self.lives: dict[str, Live] = {}
        """Executions in memory, by id."""
        self.idle: dict[str, Live] = {}
        """Those of them that only wait, least recently used first: candidates for eviction."""
        self.salvaged: dict[str, dict[int, tuple[int, Attempt]]] = {}
        """Running attempts of executions whose memory was dropped: by id, then seq, (number, attempt)."""
        self.beats: dict[Attempt, None] = {}
        """Attempts whose last heartbeat is not on the disk yet."""
        self.work = Work()
        self.now = now()
        self.next_due: int | None = store.next_due()
        self.inbox_seen = 0
        self.look = True
        """Whether another process may have left something in the file."""
        self.draining = False
        self.closed = False
        self.faults = 0
        self.fault: StoreError | None = None
        self.mutex = threading.Lock()
        self.commands = Commands(self)
        self.requests = Requests(self)
        self.outcomes = Outcomes(self)
        self._version = -1
        self._scheduled = False
        self._alarm: asyncio.TimerHandle | None = None

    # --- being woken ------------------------------------------------------------------------------------------------

    def submit(self, item: Input) -> None:
        """Hand in an input, from any thread."""
        self.inputs.append(item)
        self.wake()

    def wake(self) -> None:
        """Have `pump` run soon. From any thread."""
        if self._scheduled or self.closed:
            return
        self._scheduled = True  # pump clears it before it looks at the inputs, so none is missed
        if threading.get_ident() == self.loop_thread:
            self.loop.call_soon(self.pump)
        else:
            self.loop.call_soon_threadsafe(self.pump)

    def recover(self) -> None:
        """Look at every execution that was running when the runner before stopped. Called once, at the start."""
        for row in self.store.unfinished():
            self.inputs.append(Begin(row))
        self.wake()

    def tick(self) -> None:
        """Look for what a lost ring or a jump of the clock may have left undone. Called now and then on the loop's
        thread."""
        version = self.store.changed()
        if version != self._version or self.beats:
            self._version = version
            self.look = True
            self.wake()
        elif self.next_due is not None and self.next_due <= self.clock():
            self.wake()

    def beat(self, attempt: Attempt) -> None:
        """Note a heartbeat; it is written with the next batch or tick. From any thread."""
        self.beats[attempt] = None

    async def finish(self) -> None:
        """Handle what is left, until nothing is, then close. A fault ends the waiting: the next runner does the
        rest."""
        for _ in range(10_000):
            if not (self.inputs or self._scheduled) or self.faults or self.closed:
                break
            self.wake()
            await asyncio.sleep(0)
        with self.mutex:
            self.closed = True
        if self._alarm is not None:
            self._alarm.cancel()
        for item in self.inputs:
            if isinstance(item, Start | Deliver | Request) and item.reply is not None:
                _refuse(item.reply, EngineClosed("the engine closed before it could take this"))
        self.inputs.clear()

    def drop_all(self) -> None:
        """Evict everything from memory."""
        for live in list(self.lives.values()):
            self._forget(live)

    def pump(self) -> None:
        """Handle what has arrived: one batch, one transaction, then its effects."""
        self._scheduled = False
        with self.mutex:
            if self.closed:
                return
            work = self._batch()
        if work is not None:
            self._let_out(work)
        if self.inputs or self.look or (self.next_due is not None and self.next_due <= self.clock()):
            if self.faults == 0:
                self.wake()
        self._set_alarm()

    def _batch(self) -> Work | None:
        self.now = self.clock()
        work = self.work = Work()
        try:
            self._gather()
            self._handle_all(work)
            if work.batch:
                self.store.commit(work.batch)
        except StoreError as error:
            self._commit_failed(work, error)
            return None
        except BaseException as error:
            self._commit_failed(work, error)
            raise
        finally:
            self.work = Work()
        self.faults = 0
        self.fault = None
        self._committed(work)
        return work

    def _handle_all(self, work: Work) -> None:
        foreign = threading.get_ident() != self.loop_thread
        postponed: list[Input] = []
        while work.internal or (self.inputs and len(work.taken) < BATCH_INPUTS):
            item = work.internal.popleft() if work.internal else self.inputs.popleft()
            if foreign and self._belongs_to_loop(item):
                postponed.append(item)
                continue
            work.taken.append(item)
            self.handle(item)
        self.inputs.extendleft(reversed(postponed))

    def _committed(self, work: Work) -> None:
        self.inputs.extend(work.later)
        if work.timers_fired:
            self.next_due = self.store.next_due()
        for _, due_at, _, _ in work.batch.timers:
            if self.next_due is None or due_at < self.next_due:
                self.next_due = due_at
        while len(self.lives) > self.hot and self.idle:
            self._forget(next(iter(self.idle.values())))

    def _let_out(self, work: Work) -> None:
        """Let the effects of a committed batch out, on the loop's thread."""
        if not (work.starts or work.stops or work.replies or work.closed):
            return
        if threading.get_ident() == self.loop_thread:
            self._effects(work)
        else:
            self.loop.call_soon_threadsafe(self._effects, work)

    def _effects(self, work: Work) -> None:
        for attempt in work.stops:
            attempt.abandon()
        for attempt in work.starts:
            if attempt.phase is Phase.READY and not attempt.ended and not self.draining:
                attempt.phase = Phase.RUNNING
                self.start_attempt(attempt)
        if work.closed:
            self.on_closed(work.closed)
        for future, value in work.replies:
            if future.done():
                continue
            if isinstance(value, BaseException):
                future.set_exception(value)
            else:
                future.set_result(value)

    # --- time and other processes ------------------------------------------------------------------------------------

    def _gather(self) -> None:
        """Collect due timers and, when rung, what other processes left in the file."""
        if self.next_due is not None and self.next_due <= self.now:
            self._take_timers()
        if self.look:
            self.look = False
            self._take_inbox()
        if self.beats:
            beats, self.beats = self.beats, {}
            for attempt in beats:
                if not attempt.ended and attempt.live.row.num:
                    key = (attempt.live.row.num, attempt.seq)
                    self.work.batch.heartbeats[key] = (attempt.number, self.now, attempt.details)

    def _take_timers(self) -> None:
        for timer in self.store.due_timers(self.now, BATCH_TIMERS):
            row = self._row_of(timer.execution)
            self.work.timers_fired = True
            if row is None or row.status.closed:
                self.work.batch.timers_done.append((timer.due_at, timer.execution, timer.seq, timer.purpose))
            else:
                self._timer_due(timer, row)

    def _timer_due(self, timer: TimerRow, row: ExecutionRow) -> None:
        live = self.live(row)
        if live is None:
            return
        self.work.batch.timers_done.append((timer.due_at, timer.execution, timer.seq, timer.purpose))
        match Purpose(timer.purpose):
            case Purpose.SLEEP:
                if live.timers.pop(timer.seq, None) is not None or live.run is None:
                    self.work.internal.append(Deliver(row, Kind.TIMER_FIRED, timer.seq))
            case Purpose.DEADLINE:
                self.work.internal.append(Deliver(row, Kind.TIMED_OUT))
            case Purpose.RETRY:
                self.outcomes.retry_due(live, timer.seq)
            case Purpose.ACTIVITY_TIMEOUT:
                self.outcomes.total_timeout(live, timer.seq)
            case other:
                assert_never(other)

    def _take_inbox(self) -> None:
        for row in self.store.pending():
            if row.id not in self.lives:
                self.inputs.append(Begin(row))
        entries = self.store.inbox(self.inbox_seen, BATCH_INPUTS)
        self.look = len(entries) == BATCH_INPUTS
        for entry in entries:
            self.inbox_seen = entry.n
            row = self._row_of(entry.execution)
            if row is None:
                self.work.batch.inbox_done.append(entry.n)
            elif entry.what == "signal":
                self.inputs.append(Deliver(row, Kind.SIGNAL_RECEIVED, None, entry.name, entry.data, entry.n))
            elif entry.what == "event":
                kind = Kind(entry.kind or 0)
                self.inputs.append(Deliver(row, kind, entry.ref, entry.name, entry.data, entry.n))
            else:
                self.inputs.append(Request(row, entry.what, entry.name, entry.data, entry.n))

    def _row_of(self, num: int) -> ExecutionRow | None:
        row = self.store.get(num)
        if row is not None:
            live = self.lives.get(row.id)
            if live is not None and live.row.num == num:
                return live.row
        return row

    def _set_alarm(self) -> None:
        if threading.get_ident() != self.loop_thread or self.closed:
            return
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self.faults:
            self._alarm = self.loop.call_later(FAULT_WAIT_S[min(self.faults, len(FAULT_WAIT_S)) - 1], self.wake)
        elif self.next_due is not None:
            self._alarm = self.loop.call_later(max(self.next_due - self.clock(), 0) / 1e6, self.wake)

    # --- handling ---------------------------------------------------------------------------------------------------

    def handle(self, item: Input) -> None:
        match item:
            case AttemptDone():
                self.outcomes.handle(item)
            case Deliver():
                self._deliver(item)
            case Begin():
                self._begin(item)
            case Start():
                self.requests.start(item)
            case Request():
                self.requests.handle(item)
            case TransactionDue():
                self.outcomes.run_transaction(item)
            case _:
                assert_never(item)

    def _deliver(self, item: Deliver) -> None:
        live = self.live(item.row)
        if live is None:
            self._taken(item)
            self.work.reply(
                item.reply, ExecutionClosed(f"execution {item.row.id} has ended", hint="it takes no more input")
            )
            return
        if live.held:
            self.park(live, item)
            return
        self._taken(item)
        self.advance(live, item.kind, item.ref, item.name, item.data)
        self.work.reply(item.reply)

    def park(self, live: Live, item: Deliver) -> None:
        """Keep an input in the inbox until its execution can take it."""
        if item.inbox is None:
            what = "signal" if item.kind is Kind.SIGNAL_RECEIVED else "event"
            parked = Parked(live.row, what, item.kind.value, item.ref, item.name, item.data)
            self.work.batch.parked.append(parked)
        self.work.reply(item.reply)

    def _taken(self, item: Deliver | Request) -> None:
        if item.inbox is not None:
            self.work.batch.inbox_done.append(item.inbox)

    def _begin(self, item: Begin) -> None:
        if item.row.num == 0 and item.row.id not in self.lives:
            return  # made by a batch that was never written
        known = item.row.id in self.lives
        live = self.live(item.row)
        if live is None or live.held:
            return
        if not known:
            self.outcomes.recovered(live, live.before)
            if live.before is Status.BLOCKED:
                self.unpark(live)
        if item.reopened:
            for seq, due_at in live.timers.items():
                self.work.batch.timers[(live.row, due_at, seq, Purpose.SLEEP)] = None
        self.settle(live)

    def note_lost_signal(self, live: Live, name: str, to: str) -> None:
        logger.warning("signal %s from %s to %s is lost: no such open execution", name, live.row.id, to)

    def unpark(self, live: Live) -> None:
        """Hand in again what waited in the inbox while the execution was paused or blocked."""
        for entry in self.store.parked(live.row.num):
            if entry.what in ("signal", "event") and entry.n <= self.inbox_seen:
                kind = Kind(entry.kind) if entry.kind is not None else Kind.SIGNAL_RECEIVED
                self.inputs.append(Deliver(live.row, kind, entry.ref, entry.name, entry.data, entry.n))
            elif entry.n <= self.inbox_seen:
                self.inputs.append(Request(live.row, entry.what, entry.name, entry.data, entry.n))

    # --- executions in memory ----------------------------------------------------------------------------------------

    def live(self, row: ExecutionRow) -> Live | None:
        """Give an open execution in memory, loading it if need be; None when it has ended."""
        live = self.lives.get(row.id)
        if live is not None:
            if live.row.run != row.run:
                return None
            if live.run is not None and live.run.main is None and not live.held:
                self.run_first(live)
            return live if live.row.id in self.lives else None
        if row.id in self.work.closed:
            return None
        current = self.store.get(row.num)
        if current is None or current.status.closed:
            return None
        return self._load(current)

    def find(self, id: str) -> ExecutionRow | None:
        """Give the newest run with this id as this batch sees it."""
        live = self.lives.get(id)
        if live is not None:
            return live.row
        if id in self.work.closed:
            return self.work.closed[id][0]
        return self.store.find(id)

    def add(self, row: ExecutionRow, events: list[Event]) -> Live:
        """Bring a new execution into the batch and into memory. Its code runs when something reaches it."""
        run = Run(self.registry.get(row.workflow), row.id, row.run, self.max_bytes)
        live = self.lives[row.id] = Live(row, run)
        live.last_at = self.now
        self.work.touched[live] = None
        self.work.batch.executions.append(row)
        self.work.batch.events.extend((row, event) for event in events)
        live.first = events
        if row.deadline_at is not None:
            self.work.batch.timers[(row, row.deadline_at, 0, Purpose.DEADLINE)] = None
        return live

    def _load(self, row: ExecutionRow) -> Live:
        try:
            live, first = loading.load(self.store, row, self.registry.get(row.workflow), self.max_bytes)
        except (NonDeterminismError, UnknownWorkflow) as error:
            live = self.lives[row.id] = Live(row, None)
            self.work.touched[live] = None
            self._set_blocked(live, error)
            return live
        self.lives[row.id] = live
        live.before = row.status
        self.work.touched[live] = None
        self._adopt(live)
        if row.status is Status.BLOCKED:
            row.problem = None
            self._set_status(live, Status.RUNNING)
        if first and not live.held:
            live.first = first
            self.run_first(live)
        return live

    def _adopt(self, live: Live) -> None:
        for seq, (number, running) in self.salvaged.pop(live.row.id, {}).items():
            attempt = live.attempts.get(seq)
            if attempt is not None and attempt.number == number:
                attempt.adopt(running)
            else:
                running.abandon()

    def run_first(self, live: Live) -> None:
        """Run the code of an execution that has its first events recorded, and nothing more."""
        first, live.first = live.first, []
        for event in first:
            self._apply(live, event)
            if live.run is None:
                return
        self.settle(live)

    def advance(
        self, live: Live, kind: Kind, ref: int | None = None, name: str | None = None, data: str | None = None
    ) -> None:
        """Append one input to an execution's log, run its code on it, and carry out what the code asks for."""
        run = live.run
        if run is None:
            raise InternalError(f"execution {live.row.id} is blocked and cannot take {kind.name}")
        at = live.last_at = self.now if self.now > live.last_at else live.last_at
        event = Event(run.seq + 1, kind, at, ref, name, data)
        self.work.touched[live] = None
        events = self.work.batch.events
        mark = len(events)
        events.append((live.row, event))
        if not self._apply(live, event):
            del events[mark:]
            self.park(live, Deliver(live.row, kind, ref, name, data))
            return
        self.settle(live)

    def note(
        self, live: Live, kind: Kind, ref: int | None = None, name: str | None = None, data: str | None = None
    ) -> None:
        """Append a note to an execution's log; its code does not see it."""
        assert live.run is not None
        live.last_at = max(self.now, live.last_at)
        live.run.seq += 1
        self.work.touched[live] = None
        self.work.batch.events.append((live.row, Event(live.run.seq, kind, live.last_at, ref, name, data)))

    def _apply(self, live: Live, event: Event) -> bool:
        run = live.run
        assert run is not None
        try:
            commands = run.apply(event)
        except NonDeterminismError as error:
            self._set_blocked(live, error)
            return False
        if commands:
            self.commands.carry_out(live, commands)
        return True

    def _set_blocked(self, live: Live, error: PerdureError) -> None:
        """Set an execution aside, its history untouched, until code that fits is running."""
        logger.error("execution %s is blocked: %s", live.row.id, error)
        if live.run is not None:
            live.run.evict()
        live.run = None
        for attempt in live.attempts.values():
            self.work.stops.append(attempt)
        live.attempts.clear()
        live.row.problem = str(error)
        self._set_status(live, Status.BLOCKED)

    def settle(self, live: Live) -> None:
        """Bring an execution's row up to date after something happened to it."""
        row = live.row
        if self.lives.get(row.id) is not live:
            return
        if live.run is not None and row.status is not Status.PAUSED:
            status = live.status()
            if status is not row.status:
                self._set_status(live, status)
        if row.status is Status.RUNNING:
            self.idle.pop(row.id, None)
        else:
            self.idle.pop(row.id, None)
            self.idle[row.id] = live

    def _set_status(self, live: Live, status: Status) -> None:
        live.row.status = status
        self.work.batch.statuses[live.row] = None

    def close(self, live: Live, status: Status, event: Event | None) -> None:
        """Take an execution that has ended out of memory and tell who waits for it."""
        row = live.row
        row.ended_at = live.last_at
        self._set_status(live, status)
        self.work.closed[row.id] = (row, event)
        self.lives.pop(row.id, None)
        self.idle.pop(row.id, None)
        for attempt in live.attempts.values():
            self.work.stops.append(attempt)
        for seq, due_at in live.timers.items():
            self.work.batch.cancel_timer(row, due_at, seq, Purpose.SLEEP)
        if row.deadline_at is not None:
            self.work.batch.cancel_timer(row, row.deadline_at, 0, Purpose.DEADLINE)

    def _forget(self, live: Live) -> None:
        """Evict a waiting execution from memory."""
        self.lives.pop(live.row.id, None)
        self.idle.pop(live.row.id, None)
        if live.run is not None:
            live.run.evict()

    # --- faults -----------------------------------------------------------------------------------------------------

    def _commit_failed(self, work: Work, error: BaseException) -> None:
        """Drop the memory that ran ahead; keep what happened in the world, refuse what callers asked."""
        self.store.rollback()
        for row in work.batch.executions:
            row.num = 0
        for live in work.touched:
            self._drop(live)
        again: list[Input] = []
        for item in work.taken:
            self._undo(item, error, again)
        self.inputs.extendleft(reversed(again))
        self.inbox_seen = 0
        self.look = True
        self.next_due = self.now
        self.faults += 1
        if isinstance(error, StoreError):
            self.fault = error
            logger.error("a commit failed, nothing acknowledged is lost: %s", error)
            self.loop.call_soon_threadsafe(self.on_fault, error)

    def _drop(self, live: Live) -> None:
        if self.lives.get(live.row.id) is live:
            del self.lives[live.row.id]
        self.idle.pop(live.row.id, None)
        running = {seq: (a.number, a) for seq, a in live.attempts.items() if a.phase is Phase.RUNNING}
        if running:
            self.salvaged.setdefault(live.row.id, {}).update(running)
        if live.run is not None:
            live.run.evict()
        if live.row.num and (live.row.status.closed or running or live.attempts):
            self.inputs.append(Begin(live.row))

    def _undo(self, item: Input, error: BaseException, again: list[Input]) -> None:
        match item:
            case AttemptDone():
                row = item.attempt.live.row
                self.salvaged.setdefault(row.id, {})[item.attempt.seq] = (item.number, item.attempt)
                again.append(item)
            case Begin() | TransactionDue():
                again.append(item)
            case Start() | Deliver() | Request():
                if item.reply is not None:
                    self.loop.call_soon_threadsafe(_refuse, item.reply, error)
            case _:
                assert_never(item)

    def _belongs_to_loop(self, item: Input) -> bool:
        """Say whether an input reaches the code of a `def` workflow, whose greenlet lives on the loop's thread."""
        match item:
            case AttemptDone() | TransactionDue():
                name = item.attempt.live.row.workflow
            case Deliver() | Request() | Begin():
                name = item.row.workflow
            case Start():
                name = item.workflow
            case _:
                assert_never(item)
        workflow = self.registry.by_name.get(name)
        return workflow is None or not workflow.is_async


def _refuse(reply: asyncio.Future[Any], error: BaseException) -> None:
    if not reply.done():
        reply.set_exception(error)
