"""One execution's deterministic state: inputs in, commands out.

1. A run is a function of its code and its inputs: no clock, no I/O, no randomness but its own seeded generator.
2. `apply` takes one input, runs the code until nothing is ready, and gives the commands that it led to, in order,
   each with the next `seq`. So the log reads input, commands, input, commands…, however the inputs were batched.
3. With `recorded` (replay) each command is compared with the recorded one as it is made, in the user's own frame;
   the first difference is a `NonDeterminismError`, raised from `apply` whatever the code did with it.
4. So is a refusal of what replay could not repeat. After either, after a closing command, or once evicted, a run does
   nothing durable any more.

            STARTED              the code returns, raises or is cancelled,
    new ──────────────▶ open ──────────────────────────────────────────────▶ closed
                          │ evict (memory only; replay makes it again)
                          ▼
                         dead
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import random
import uuid
from asyncio.events import _get_running_loop, _set_running_loop
from collections.abc import Callable, Iterable, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any

import msgspec

from perdure.codec import decode_failure, encode_failure, rebuild_failure
from perdure.errors import (
    ContinueAsNew,
    Evicted,
    ExecutionCancelled,
    ExecutionTimedOut,
    InvalidValue,
    NonDeterminismError,
    PayloadTooLarge,
)
from perdure.events import Event, Kind
from perdure.replay import mismatch
from perdure.replay.bridge import drive
from perdure.replay.call import Call
from perdure.replay.history import Inherited
from perdure.replay.loop import WorkflowLoop
from perdure.replay.mailbox import Mailbox
from perdure.types import storable

if TYPE_CHECKING:
    from perdure.activity import Activity
    from perdure.workflow import Signal, Workflow

_encode = msgspec.json.encode
REFUSALS = 100


class Run:
    """See the module. `execution_id` and `number` name the run; `workflow` is its code."""

    __slots__ = (
        "__weakref__", "_random", "answer", "cancel_reason", "cancelling", "closing", "dead", "execution_id", "loop",
        "made", "mailboxes", "main", "max_bytes", "mismatch", "now_us", "number", "open", "patches", "position",
        "recorded", "refusals", "seq", "state", "timed_out", "winding", "workflow",
    )  # fmt: skip

    def __init__(
        self, workflow: Workflow[..., Any, Any], execution_id: str, number: int = 1, max_bytes: int = 16 * 1024 * 1024
    ) -> None:
        self.workflow = workflow
        self.max_bytes = max_bytes
        """The largest payload that a command may carry."""
        self.execution_id = execution_id
        self.number = number
        self.loop = WorkflowLoop(self)  # type: ignore[abstract]  # loop.py refuses what it does not define
        self.seq = 0
        self.now_us = 0
        self.made = int.from_bytes(hashlib.blake2b(f"{execution_id}:{number}".encode(), digest_size=6).digest())
        """Counts tasks and calls, for their hashes. Starts elsewhere in each run: asyncio keeps the tasks of all loops
        in one set, and equal hashes would make that slow."""
        self.main: asyncio.Task[Any] | None = None
        self.open: dict[int, Call[Any]] = {}
        """Activities and children in progress, by the seq of their start."""
        self.mailboxes: dict[str, Mailbox] = {}
        self.state: dict[str, str] = {}
        """The readable state: JSON text by key."""
        self.patches: dict[str, bool] = {}
        self.answer: list[Event] = []
        """The commands that the current input led to."""
        self.recorded: list[Event] | None = None
        """During replay the commands that the current input led to when it was live; None at the tip."""
        self.position = 0
        self.mismatch: NonDeterminismError | None = None
        self.closing: Event | None = None
        """The command that closed the run."""
        self.cancelling = False
        self.cancel_reason: str | None = None
        self.timed_out = False
        self.winding = False
        self.dead = False
        self.refusals = 0
        self._random: random.Random | None = None

    # --- inputs -----------------------------------------------------------------------------------------------------

    def apply(self, event: Event, recorded: list[Event] | None = None) -> list[Event]:
        """Take one input and give the commands that it leads to.

        With `recorded` the commands must be those; raises `NonDeterminismError` at the first that is not. After any
        error the run is evicted: left to the garbage collector, its `finally` blocks would run for real, or in
        whatever run is active then.
        """
        self.seq = event.seq
        self.now_us = event.at
        self.answer = []
        self.recorded = recorded
        self.position = 0
        try:
            if self.closing is None:
                self._deliver(event)
                self.loop.drain()
                if self.main is not None and self.main.done() and self.mismatch is None:
                    self._wind_down(self.main)
            if self.mismatch is not None:
                raise self.mismatch
            if recorded is not None:
                self._skip_markers()
                if self.position < len(recorded):
                    raise mismatch.missing(self, recorded[self.position])
        except BaseException:
            self.evict()
            raise
        return self.answer

    def replay(self, events: Iterable[Event]) -> None:
        """Bring the run to where `events`, its whole history so far, ends."""
        waiting: Event | None = None
        recorded: list[Event] = []
        for event in events:
            if event.kind >= Kind.ACTIVITY_SCHEDULED:
                recorded.append(event)
                continue
            if waiting is not None:
                self.apply(waiting, recorded)
                waiting, recorded = None, []
            if event.kind < Kind.ATTEMPT_FAILED:
                waiting = event
            else:
                self.seq = event.seq
        if waiting is not None:
            self.apply(waiting, recorded)

    def _deliver(self, event: Event) -> None:
        try:
            match event.kind:
                case Kind.ACTIVITY_COMPLETED | Kind.CHILD_COMPLETED:
                    call = self._ended(event)
                    if call is not None:
                        call.set_result(call.decode(event.data or "null"))
                case Kind.TIMER_FIRED:
                    self.loop.fire(event.ref or 0)
                case Kind.STARTED:
                    self._start(event)
                case Kind.SIGNAL_RECEIVED:
                    self._mailbox(event.name or "").deliver(event.data or "null")
                case Kind.ACTIVITY_FAILED | Kind.CHILD_FAILED:
                    self._fail(event)
                case Kind.CHILD_CANCELLED:
                    self._child_cancelled(event)
                case Kind.CANCEL_REQUESTED | Kind.TIMED_OUT:
                    self._cancel(event)
                case Kind.INHERITED:
                    self._inherit(event)
                case _:
                    raise mismatch.unexpected(self, event)
        except (InvalidValue, msgspec.MsgspecError, RecursionError) as error:
            raise mismatch.undecodable(self, event, error) from error

    def _start(self, event: Event) -> None:
        workflow = self.workflow
        args, kwargs = workflow.arguments.call_args(event.data or "{}")
        coroutine = workflow.fn(*args, **kwargs) if workflow.is_async else drive(workflow.fn, args, kwargs)
        self.main = self.loop.create_task(coroutine, name="main", context=Context())

    def _fail(self, event: Event) -> None:
        call = self._ended(event)
        if call is None:
            return
        error = rebuild_failure(decode_failure(event.data or "{}"))
        if isinstance(error, StopIteration):  # no future takes it; newer asyncio does this, and not every Python
            error, cause = RuntimeError(f"StopIteration was raised: {error}"), error
            error.__cause__ = cause
        call._fail(error)

    def _child_cancelled(self, event: Event) -> None:
        call = self._ended(event)
        if call is not None:
            call._fail(ExecutionCancelled(f"child {call.execution_id} was cancelled"))

    def _ended(self, event: Event) -> Call[Any] | None:
        """Give the call that `event` ends, if code still waits for it.

        One that was cancelled ends as cancelled, also when the child was faster and completed: who cancelled it may
        be under cancellation too, and would go on as if nothing had been asked.
        """
        call = self.open.pop(event.ref or 0, None)
        if call is None or call.done():
            return None
        if call.cancel_sent:
            call.cancelled_by_end()
            return None
        return call

    def _cancel(self, event: Event) -> None:
        """Cancel the code once; a second request does not break the cleanup that the first one set off."""
        if self.cancelling or self.main is None:
            return
        self.cancelling = True
        self.timed_out = event.kind is Kind.TIMED_OUT
        self.cancel_reason = None if event.data is None else msgspec.json.decode(event.data, type=str | None)
        self.main.cancel(self.cancel_reason)

    def _inherit(self, event: Event) -> None:
        inherited = msgspec.json.decode(event.data or "{}", type=Inherited)
        self.state = {key: str(raw, "utf-8") for key, raw in inherited.state.items()}
        for name, raw in inherited.signals:
            self._mailbox(name).deliver(str(raw, "utf-8"))

    # --- ending -----------------------------------------------------------------------------------------------------

    def _wind_down(self, main: asyncio.Task[Any]) -> None:
        """Cancel the tasks that the main one left behind, close its async generators, as asyncio.run does, and close
        when the last has ended."""
        if not self.winding:
            self.winding = True
            for task in list(self.loop.tasks):
                task.cancel()
            self.loop.drain()
        if not self.loop.tasks and self.loop.generators.begun:
            for closing in self.loop.generators.closing():
                self.loop.create_task(closing)
            self.loop.drain()
        if not self.loop.tasks and self.mismatch is None:
            self._close(main)

    def _close(self, main: asyncio.Task[Any]) -> None:
        if main.cancelled():
            if self.timed_out:
                limit = ExecutionTimedOut(f"execution {self.execution_id} did not end within its timeout_s")
                self._emit(Kind.FAILED, data=encode_failure(limit))
            else:
                self._emit(Kind.CANCELLED, data=_encode(self.cancel_reason).decode())
            return
        error = _unwrapped(main.exception())
        if error is None:
            self._close_with(Kind.COMPLETED, self.workflow.returns.check, main.result())
        elif isinstance(error, ContinueAsNew):
            self._close_with(Kind.CONTINUED, self.workflow.arguments.check, *error.args)
        else:
            self._emit(Kind.FAILED, data=encode_failure(error))

    def _close_with(self, kind: Kind, write: Callable[..., str], *values: Any) -> None:
        """Close with what `write` makes of `values`, or as failed where they do not fit."""
        try:
            self._emit(kind, data=write(*values))
        except (InvalidValue, PayloadTooLarge) as error:
            self._emit(Kind.FAILED, data=encode_failure(error))

    def evict(self) -> None:
        """Drop the code from memory. Its pending `finally` blocks run now, but nothing durable in them happens."""
        self.dead = True
        outer = _get_running_loop()
        _set_running_loop(self.loop)  # so that durable calls in those blocks raise Evicted and do not run for real
        try:
            for task in list(self.loop.tasks):
                _abandon(task)
        finally:
            _set_running_loop(outer)
        self.loop.ready.clear()
        self.loop.timers.clear()
        self.loop.tasks.clear()
        self.loop.generators.begun.clear()
        self.open.clear()
        self.mailboxes.clear()
        self.main = None

    def refused(self, error: NonDeterminismError) -> NonDeterminismError:
        """Make a refusal final: `apply` raises it even if the code swallows it. Gives what to raise."""
        if self.mismatch is None:
            self.mismatch = error
        return error

    def refuse(self) -> None:
        """Refuse something durable after the eviction or a mismatch: raise `Evicted`.

        Code that swallows that in a loop (`while True: try: … except: …`) would never end. After a while it gets its
        way: it then waits for what never comes, which a coroutine that is being closed must not do, and so it ends.
        """
        self.refusals += 1
        if self.refusals <= REFUSALS:
            raise Evicted

    # --- commands ---------------------------------------------------------------------------------------------------

    def _emit(
        self, kind: Kind, name: str | None = None, data: str | None = None, ref: int | None = None, target: Any = None
    ) -> int:
        """Record one command and give its seq; in replay, compare it with the recorded one instead."""
        if self.dead or self.mismatch is not None:
            self.refuse()
            return 0
        if data is not None and len(data) > self.max_bytes // 4 and kind is not Kind.FAILED:
            self._check_size(name or self.workflow.name, data)
        if name is not None and not (name.isidentifier() or storable(name)):
            raise InvalidValue(f"a name in {self.workflow.name} cannot be {name!r}")
        if self.recorded is not None:
            self._skip_markers(kind, name)
        self.seq += 1
        event = Event(self.seq, kind, self.now_us, ref, name, data)
        if self.recorded is not None:
            expected = self.recorded[self.position] if self.position < len(self.recorded) else None
            if expected != event and not (expected and mismatch.fits(expected, event, target)):
                raise self.refused(mismatch.differs(self, expected, event))
            self.position += 1
        if kind >= Kind.COMPLETED:
            self.closing = event
        self.answer.append(event)
        return self.seq

    def _check_size(self, what: str, data: str) -> None:
        size = len(data.encode())
        if size > self.max_bytes:
            raise PayloadTooLarge(
                f"{what}: a payload of {size:,} bytes; the limit is {self.max_bytes:,}",
                hint="store it elsewhere and pass a reference, or raise max_payload_bytes",
            )

    def start_activity(
        self, activity: Activity[..., Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call[Any]:
        data = activity.arguments.encode(args, kwargs)
        seq = self._emit(Kind.ACTIVITY_SCHEDULED, activity.name, data, None, activity)
        call = self.open[seq] = Call(self, activity, seq, data, activity.arguments.result.decode, self._cancel_activity)
        return call

    def _cancel_activity(self, call: Call[Any]) -> bool:
        if not self.dead:
            self._emit(Kind.ACTIVITY_CANCELLED, ref=call.seq)
            del self.open[call.seq]
        return True

    def start_child(
        self, workflow: Workflow[..., Any, Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Call[Any]:
        data = workflow.arguments.check(args, kwargs)
        prefix = self.execution_id if self.number == 1 else f"{self.execution_id}:{self.number}"
        child_id = workflow.id or f"{prefix}/{workflow.name}-{self.seq + 1}"
        start: dict[str, object] = {"id": child_id, "args": msgspec.Raw(data.encode())}
        if workflow.on_parent_end == "abandon":
            start["on_parent_end"] = "abandon"
        both = _encode(start).decode()
        seq = self._emit(Kind.CHILD_STARTED, workflow.name, both, None, workflow)
        call = self.open[seq] = Call(self, workflow, seq, data, workflow.returns.decode, self._cancel_child)
        call.execution_id = child_id
        return call

    def _cancel_child(self, call: Call[Any]) -> bool:
        if self.dead:
            return True
        if self.cancelling and call.target.on_parent_end == "abandon":
            del self.open[call.seq]
            return True
        if not call.cancel_sent:
            call.cancel_sent = True
            self._emit(Kind.CHILD_CANCEL_REQUESTED, ref=call.seq)
        return False

    def start_timer(self, due_us: int) -> int:
        return self._emit(Kind.TIMER_STARTED, data=str(due_us))

    def cancel_timer(self, seq: int) -> None:
        if not self.dead and self.closing is None:
            self._emit(Kind.TIMER_CANCELLED, ref=seq)

    def set_state(self, key: str, data: str | None) -> None:
        self._emit(Kind.STATE_SET, key, data)
        if data is None:
            del self.state[key]
        else:
            self.state[key] = data

    def send_signal(self, name: str, to: str, data: str) -> None:
        self._emit(Kind.SIGNAL_SENT, name, _encode({"to": to, "value": msgspec.Raw(data.encode())}).decode())

    def patched(self, patch_id: str) -> bool:
        """Say whether code changed under `patch_id` applies. The first answer holds for the whole run."""
        known = self.patches.get(patch_id)
        if known is not None:
            return known
        here = self.recorded is None or any(event.name == patch_id for event in self._markers())
        if here:
            self._emit(Kind.PATCHED, patch_id)
        self.patches[patch_id] = here
        return here

    def _markers(self) -> Iterator[Event]:
        """Give the recorded patch markers that come next."""
        recorded = self.recorded or []
        for position in range(self.position, len(recorded)):
            if recorded[position].kind is not Kind.PATCHED:
                return
            yield recorded[position]

    def _skip_markers(self, kind: Kind | None = None, name: str | None = None) -> None:
        """Pass over recorded markers that the code does not ask for any more: the old path was taken out, and with it
        the call of `patched`."""
        for marker in self._markers():
            if kind is Kind.PATCHED and marker.name == name:
                return
            self.patches[marker.name or ""] = True
            self.answer.append(marker)
            self.position += 1
            self.seq += 1

    # --- signals and randomness -------------------------------------------------------------------------------------

    def receive(self, signal: Signal[Any]) -> Call[Any]:
        """Take the oldest value of `signal` that was not received yet, or wait for the next one."""
        if self.dead:
            self.refuse()
        call: Call[Any] = Call(self, signal, 0, "", signal.value.decode)
        self._mailbox(signal.name).receive(call)
        return call

    def _mailbox(self, name: str) -> Mailbox:
        box = self.mailboxes.get(name)
        if box is None:
            box = self.mailboxes[name] = Mailbox()
        return box

    def unreceived(self) -> Iterator[tuple[str, str]]:
        """Give the signals that no code has received, oldest first within each name."""
        for name, box in self.mailboxes.items():
            for data in box.values:
                yield name, data

    @property
    def random(self) -> random.Random:
        """The run's own generator, seeded by its name."""
        if self._random is None:
            self._random = random.Random(f"{self.execution_id}:{self.number}")
        return self._random

    def uuid4(self) -> uuid.UUID:
        return uuid.UUID(int=self.random.getrandbits(128), version=4)


def _unwrapped(error: BaseException | None) -> BaseException | None:
    """Take control flow of ours out of the groups that TaskGroups made of it."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1 and not isinstance(error, Exception):
        error = error.exceptions[0]
    return error


def _abandon(task: asyncio.Task[Any]) -> None:
    coroutine = task.get_coro()
    with contextlib.suppress(BaseException):  # whatever its cleanup raises has nowhere to go: the log decides
        coroutine.close()
    if getattr(coroutine, "cr_frame", None) is not None:
        _undead.append(coroutine)


_undead: list[Any] = []
"""Coroutines that swallowed their end. Never let go: the garbage collector would run them again, on whatever loop is
current then, and they could start timers in another execution."""
