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
from typing import assert_never

from msgspec.structs import replace

from perdure.engine.arrivals import TIMER_ROWS, Arrivals
from perdure.engine.attempt import Attempt
from perdure.engine.commands import Commands
from perdure.engine.effects import Effects
from perdure.engine.faults import Faults, refuse
from perdure.engine.inputs import (
    AttemptDone,
    AttemptStarts,
    Begin,
    Deliver,
    Input,
    Request,
    Start,
    TransactionDue,
    row_of,
)
from perdure.engine.live import Live
from perdure.engine.memory import Memory
from perdure.engine.outcomes import Outcomes
from perdure.engine.registry import Registry
from perdure.engine.replicator import Stream
from perdure.engine.requests import Requests
from perdure.engine.work import Work
from perdure.errors import EngineClosed, ExecutionClosed, InternalError, NonDeterminismError, PerdureError
from perdure.events import Event, Kind
from perdure.store import ExecutionRow, Parked, Purpose, Store
from perdure.types import Durability, Status

logger = logging.getLogger("perdure.runner")

BATCH_INPUTS = 2_000
BATCHES_A_TURN, SMALL_BATCH = 4, 8
"""How many batches one turn of the loop may handle, while they have no more inputs than that."""
BATCH_TOLD = 10_000
"""From so many inputs on, what executions tell each other goes through the inbox: two that answer each other without
end must not make a batch without end."""


class Runner:
    """See the module. `now` gives microseconds since 1970, `draw` random numbers from 0 to 1; for `start`, `on_closed`
    and `on_fault` see `Effects` and `Faults`."""

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
        private: bool = False,
        stream: Stream | None = None,
        durability: Durability = Durability.LOCAL,
    ) -> None:
        self.store = store
        self.registry = registry
        self.clock = now
        self.loop = loop
        self.loop_thread = threading.get_ident()
        self.draw = draw
        self.max_bytes = max_bytes
        self.deployment = deployment
        self.private = private
        """Whether payloads are encrypted: then logs and problems must not show them either."""
        self.stream = stream
        self.inputs: deque[Input] = deque()
        self.work = Work()
        self.now = now()
        self.draining = False
        self.closed = False
        self.foreign = False
        """Whether the watchdog's thread is driving in the loop's place."""
        self.mutex = threading.Lock()
        self.memory = Memory(self, hot)
        self.arrivals = Arrivals(self)
        self.commands = Commands(self)
        self.requests = Requests(self)
        self.outcomes = Outcomes(self)
        self.effects = Effects(self, start, on_closed, stream, durability)
        self.faults = Faults(self, on_fault)
        self._scheduled = False
        self._commit = 0
        """The number of the newest commit, if commits are replicated; 0 for what was there before."""

    # --- being woken ------------------------------------------------------------------------------------------------

    def submit(self, item: Input) -> None:
        """Hand in an input, from any thread."""
        self.inputs.append(item)
        if not self._scheduled:
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

    @property
    def due(self) -> bool:
        """Whether it has something to do now. From any thread."""
        return self._scheduled or self.arrivals.waiting()

    @property
    def busy(self) -> bool:
        """Whether it has something to do, or waits for something that runs."""
        if self.inputs or self.faults.count or self.due:
            return True
        return any(live.row.status is Status.RUNNING for live in self.memory.lives.values())

    def recover(self) -> None:
        """Look at every execution that was running when the runner before stopped. Called once, at the start."""
        for row in self.store.unfinished():
            self.inputs.append(Begin(row))
            self.arrivals.begins.add(row.num)
        self.wake()

    def tick(self) -> None:
        """Look for what a lost ring or a jump of the clock may have left undone. Called now and then on the loop's
        thread."""
        if self.arrivals.changed():
            self.wake()

    def rung(self) -> None:
        """Another process has left something in the file. On the loop's thread."""
        self.arrivals.look = True
        if self.stream is not None:
            self.stream.look()
        self.wake()

    def beat(self, attempt: Attempt) -> None:
        """Note a heartbeat; it is written with the next batch or tick. From any thread."""
        self.arrivals.beats[attempt] = None

    async def finish(self) -> None:
        """Handle what is left, until nothing is, then close. A fault ends the waiting: the next runner does the
        rest."""
        for _ in range(10_000):
            if not (self.inputs or self._scheduled) or self.faults.count or self.closed:
                break
            self.wake()
            await asyncio.sleep(0)
        with self.mutex:
            self.closed = True
        self.arrivals.cancel_alarm()
        for item in self.inputs:
            if isinstance(item, Start | Deliver | Request) and item.reply is not None:
                refuse(item.reply, EngineClosed("the engine closed before it could take this"))
            elif isinstance(item, AttemptStarts):
                item.attempt.ended = True
                item.go()
        self.inputs.clear()

    def drop_all(self) -> None:
        """Evict everything from memory."""
        for live in list(self.memory.lives.values()):
            self.memory.evict(live)

    def pump(self) -> None:
        """Handle what has arrived: one batch, one transaction, then its effects. What answers at once is handled in the
        same turn of the loop, for a few small batches."""
        foreign = threading.get_ident() != self.loop_thread
        self._scheduled = not foreign  # who wakes us meanwhile is seen at the end
        try:
            for _ in range(1 if foreign else BATCHES_A_TURN):
                with self.mutex:
                    if self.closed:
                        return
                    self.foreign = foreign
                    work = self._batch()
                if work is not None and not foreign:
                    self.effects.let_out(work)
                elif work is not None:
                    self.loop.call_soon_threadsafe(self.effects.let_out, work)
                if work is None or work.replies or not self.inputs or len(work.taken) > SMALL_BATCH:
                    break  # callers that were answered come first
        finally:
            self._scheduled = False
        if (self.inputs or self.arrivals.waiting()) and not self.faults.count:
            self.wake()
        if not foreign:
            self.arrivals.set_alarm(self.faults.wait_s)

    def _batch(self) -> Work | None:
        """Make one batch and commit it; None when that failed."""
        self.now = self.clock()
        work = self.work = Work()
        handled, alone = False, self.faults.suspects > 0
        try:
            self.arrivals.gather(1 if alone else TIMER_ROWS)
            self._handle_all(work, BATCH_INPUTS if not alone else 0 if work.timers else 1)
            handled = True
            if work.batch.events or work.batch:
                if self.stream is not None:
                    self.stream.check()
                self.store.commit(work.batch)
                if self.stream is not None:
                    self._commit = self.stream.committed()
            elif work.replies or work.looked:
                self.store.confirm()  # memory is right only while nobody else advances executions; else step down
        except Exception as error:
            self.faults.stumbled(work, error, handled, alone)
            return None
        except BaseException as error:
            self.faults.drop(work, error)
            raise
        finally:
            self.faults.suspects -= alone
        work.commit = self._commit  # also for one without a commit: what led to it was committed before
        self.faults.passed(alone)
        if work.timers_fired or work.batch.timers:
            self.arrivals.committed()
        if work.later:
            self.inputs.extend(work.later)
        if not self.foreign:
            self.memory.evict_idle()
        return work

    def _handle_all(self, work: Work, limit: int) -> None:
        postponed: list[Input] = []
        inputs, told, taken = self.inputs, work.told, work.taken
        while told or (inputs and len(taken) < limit):
            item: Input
            if told:
                item = message = told.popleft()
                if len(taken) >= BATCH_TOLD or (self.foreign and self._belongs_to_loop(message)):
                    self.put_aside(message.row, message)  # belongs into this transaction: the inbox keeps it
                    self.arrivals.look = True
                    continue
            else:
                item = inputs.popleft()
                if self.foreign and self._belongs_to_loop(item):
                    postponed.append(item)
                    continue
            taken.append(item)
            self.handle(item)
        if postponed:
            inputs.extendleft(reversed(postponed))

    # --- handling ---------------------------------------------------------------------------------------------------

    def handle(self, item: Input) -> None:
        match item:
            case AttemptDone():
                self.outcomes.handle(item)
            case Deliver():
                self._deliver(item)
                self.arrivals.handled(item)
            case Begin():
                self._begin(item)
            case Start():
                self.requests.start(item)
            case Request():
                self.requests.handle(item)
                self.arrivals.handled(item)
            case AttemptStarts():
                self.outcomes.starts(item)
            case TransactionDue():
                self.outcomes.run_transaction(item)
            case _:
                assert_never(item)

    def _deliver(self, item: Deliver) -> None:
        queued = item.inbox in self.arrivals.queued
        live = self.memory.live(item.row)
        if queued and item.inbox not in self.arrivals.queued:
            return  # it was delivered just now, with what else waited for an execution that goes on again
        if live is None and item.kind in (Kind.SIGNAL_RECEIVED, Kind.CANCEL_REQUESTED):
            live = self.memory.continuation(item.row)
            if live is not None and live.held and item.inbox is not None:  # it keeps its place in the inbox
                self.arrivals.move(item, item.inbox, live.row)
                item = replace(item, row=live.row)
            elif live is not None:  # from now on it belongs to the new run
                self._taken(item)
                item = replace(item, row=live.row, inbox=None)
        if live is None:
            self._taken(item)
            self.work.reply(
                item.reply, ExecutionClosed(f"execution {item.row.id} has ended", hint="it takes no more input")
            )
            return
        if live.held:
            self.park(live, item)
            return
        if item.kind is Kind.ACTIVITY_COMPLETED or item.kind is Kind.ACTIVITY_FAILED:
            self.commands.stop_activity(live, item.ref or 0)  # its end was parked, and it may have been started again
        self.advance(live, item.kind, item.ref, item.name, item.data, item.inbox)
        self.work.reply(item.reply)

    def park(self, live: Live, item: Deliver) -> None:
        """Keep an input in the inbox until its execution can take it."""
        if item.inbox is None:
            self.put_aside(live.row, item)
        self.work.reply(item.reply)

    def put_aside(self, row: ExecutionRow, item: Deliver) -> None:
        what = "signal" if item.kind is Kind.SIGNAL_RECEIVED else "event"
        self.work.batch.parked.append(Parked(row, what, item.kind.value, item.ref, item.name, item.data))

    def _taken(self, item: Deliver | Request) -> None:
        if item.inbox is not None:
            self.work.batch.inbox_done.append(item.inbox)

    def _begin(self, item: Begin) -> None:
        self.arrivals.begins.discard(item.row.num)
        if item.row.num == 0 and item.row.id not in self.memory.lives:
            return  # made by a batch that was never written
        live = self.memory.live(item.row)
        if live is None and self.memory.is_stray(item.row):
            item.row.problem = f"another run of {item.row.id} is open as well; there can be one only"
            item.row.status = Status.BLOCKED
            self.work.batch.statuses[item.row] = None
        if live is not None and not live.held:
            self.settle(live)

    def note_lost_signal(self, live: Live, name: str, to: str) -> None:
        logger.warning("signal %s from %s to %s is lost: no such open execution", name, live.row.id, to)

    # --- advancing --------------------------------------------------------------------------------------------------

    def run_first(self, live: Live) -> None:
        """Run the code of an execution that has its first events recorded, and nothing more."""
        first, live.first = live.first, []
        for event in first:
            self._apply(live, event)
            if live.run is None:
                return
        self.settle(live)

    def advance(
        self,
        live: Live,
        kind: Kind,
        ref: int | None = None,
        name: str | None = None,
        data: str | None = None,
        inbox: int | None = None,
    ) -> None:
        """Append one input to an execution's log, run its code on it, and carry out what the code asks for.

        An input whose code does not fit goes, or stays, in the inbox: there it keeps its place.
        """
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
            self.park(live, Deliver(live.row, kind, ref, name, data, inbox))
            return
        if inbox is not None:
            self.work.batch.inbox_done.append(inbox)
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
            self.block(live, error)
            return False
        if commands:
            self.commands.carry_out(live, commands)
        return True

    def block(self, live: Live, error: PerdureError) -> None:
        """Set an execution aside, its history untouched, until code that fits is running."""
        problem = str(error)
        if self.private and isinstance(error, NonDeterminismError):
            problem = problem.partition("\n")[0]  # what follows shows arguments and results
        logger.error("execution %s is blocked: %s", live.row.id, problem)
        if live.run is not None:
            live.run.evict()
        live.run = None
        for attempt in live.attempts.values():
            self.work.stops.append(attempt)
        live.attempts.clear()
        live.row.problem = problem
        self.set_status(live, Status.BLOCKED)

    def settle(self, live: Live) -> None:
        """Bring an execution's row up to date after something happened to it."""
        row = live.row
        if self.memory.lives.get(row.id) is not live:
            return
        if live.run is not None and row.status is not Status.PAUSED:
            status = live.status()
            if status is not row.status:
                self.set_status(live, status)
        self.memory.used(live)

    def set_status(self, live: Live, status: Status) -> None:
        live.row.status = status
        self.work.batch.statuses[live.row] = None

    def close(self, live: Live, status: Status, event: Event | None) -> None:
        """Take an execution that has ended out of memory and tell who waits for it."""
        row = live.row
        row.ended_at = live.last_at
        self.set_status(live, status)
        self.work.closed[row.id] = (row, event)
        self.memory.remove(live)
        for attempt in live.attempts.values():
            self.work.stops.append(attempt)
        for seq, due_at in live.timers.items():
            self.work.batch.cancel_timer(row, due_at, seq, Purpose.SLEEP)
        if row.deadline_at is not None:
            self.work.batch.cancel_timer(row, row.deadline_at, 0, Purpose.DEADLINE)

    # --- the watchdog's thread ----------------------------------------------------------------------------------------

    def _belongs_to_loop(self, item: Input) -> bool:
        """Say whether an input reaches the code of a `def` workflow, whose greenlet lives on the loop's thread."""
        return self.is_plain(item.workflow if isinstance(item, Start) else row_of(item).workflow)

    def is_plain(self, name: str) -> bool:
        """Say whether a workflow is a plain `def` one."""
        workflow = self.registry.by_name.get(name)
        return workflow is None or not workflow.is_async
