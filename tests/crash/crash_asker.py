"""Someone who starts, signals, cancels, pauses, retries, completes and reads, and notes what was asked and told.

Runs in the workers themselves (through their engine) and in processes of its own (through a client); either may be
killed at any moment. What was asked and not told may have happened or not.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from crash_activities import raise_flag
from crash_ledger import Places, Tail, Token, Word, append, now_us
from crash_oracle import RETRIED, TIME_LIMIT_S, draw_job
from crash_workflows import collect, guarded, number, overdue, relay, tick

from perdure import Client, Conflict, Execution
from perdure.errors import EngineClosed, ExecutionClosed, PerdureError, StaleRunner, StaleToken, StoreBusy

SHARED = 2
"""How many executions of each kind that receives numbers, and how many that tick."""
OUT_OF_REACH = (EngineClosed, StaleRunner, StoreBusy)
"""The engine is closing, or was replaced as the runner and is about to stand by, or someone was stopped in the middle
of a transaction. What was asked may have happened or not."""
MOST_VALUES = 100
"""Numbers that one asker sends: relays carry all of them along."""


class Asker:
    """`name` is part of the ids that it makes up, `place` (1 or more) of the numbers that it sends. It starts `most`
    jobs, and has `at_once` of them open."""

    def __init__(self, client: Client, name: str, place: int, seed: str, at_once: int, most: int) -> None:
        self.client = client
        self.places = Places.here()
        self.name = name
        self.choose = random.Random(seed)
        self.at_once = at_once
        self.most = most
        self.open: dict[str, Execution[Any]] = {}
        self.made = 0
        self.value = place * 1_000_000
        self._last_value = self.value + MOST_VALUES
        self._tokens = Tail(self.places.tokens, Token)
        self._unanswered: list[Token] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def ask(self) -> None:
        """Ask for ever."""
        shared = False
        try:
            while True:
                try:
                    if not shared:
                        await self._start_shared()
                        shared = True
                    await self._draw()()
                except OUT_OF_REACH:
                    await asyncio.sleep(0.01)
                for task in [task for task in self._tasks if task.done()]:
                    self._tasks.discard(task)
                    task.result()
                await asyncio.sleep(self.choose.choice([0, 0.001, 0.01, 0.02]))
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _draw(self) -> Callable[[], Awaitable[None]]:
        more = len(self.open) < self.at_once and self.made < self.most
        acts: dict[Callable[[], Awaitable[None]], float] = {
            self.start_job: 4.0 if more else 0.0,
            self.start_guarded: 0.5 if more else 0.0,
            self.send_number: 3.0 if self.value < self._last_value else 0.0,
            self.hold: 0.6,
            self.cancel: 0.3,
            self.terminate: 0.1,
            self.answer: 2.0,
            self.read_state: 1.0,
            self.start_again: 0.5,
        }
        return self.choose.choices(list(acts), list(acts.values()))[0]

    # --- starting -----------------------------------------------------------------------------------------------------

    async def _start_shared(self) -> None:
        """Start what all of them share; the first one wins, the others join."""
        for i in range(SHARED):
            await self.start(collect, f"shared-collect-{i}", 0)
            await self.start(relay, f"shared-relay-{i}", [])
            await self.start(tick, f"shared-tick-{i}", i * 1000)

    async def start(self, workflow: Any, id: str, input: Any, **options: Any) -> Execution[Any]:
        self._note(False, "start", id, workflow.name, input)
        execution: Execution[Any] = await self.client.start(workflow, input, id=id, **options)
        self._note(True, "start", id, workflow.name, input)
        return execution

    async def start_job(self) -> None:
        workflow, n = draw_job(self.choose)
        options = {"timeout_s": TIME_LIMIT_S} if workflow is overdue else {}
        self.made += 1
        execution = await self.start(workflow, f"{self.name}-{self.made}", n, **options)
        self._follow(execution)

    async def start_guarded(self) -> None:
        self.made += 1
        execution = await self.start(guarded, f"{self.name}-{self.made}", 1)
        self._follow(execution)
        if self.choose.random() < 0.8:
            await self._request("cancel", execution, execution.cancel("enough"))

    async def start_again(self) -> None:
        """Start what is there already: it must be joined, or refused."""
        if self.open:
            execution = self._any()
            with contextlib.suppress(PerdureError):
                await self.client.start(execution.workflow, 0, id=execution.id, on_conflict=Conflict.REJECT)
                raise AssertionError(f"{execution.id} was started twice")

    # --- following ----------------------------------------------------------------------------------------------------

    def _follow(self, execution: Execution[Any]) -> None:
        self.open[execution.id] = execution
        self._tasks.add(asyncio.ensure_future(self._await(execution)))

    async def _await(self, execution: Execution[Any]) -> None:
        assert execution.workflow is not None
        while True:
            try:
                self._note(True, "result", execution.id, value=await execution.result())
            except OUT_OF_REACH:
                break
            except PerdureError as error:
                self._note(True, "error", execution.id, value=type(error).__name__)
            except Exception as error:
                if execution.workflow.name in RETRIED and self.choose.random() < 0.8:
                    await self.retry(execution)
                    continue
                self._note(True, "error", execution.id, value=type(error).__name__)
            break
        self.open.pop(execution.id, None)

    async def retry(self, execution: Execution[Any]) -> None:
        raise_flag(self.places, execution.id)
        with contextlib.suppress(PerdureError):  # a child is still being cancelled: the next try will do it
            self._note(False, "retry", execution.id)
            await execution.retry()
            self._note(True, "retry", execution.id)
        await asyncio.sleep(0.01)

    # --- asking of what runs ------------------------------------------------------------------------------------------

    def _any(self) -> Execution[Any]:
        return self.open[self.choose.choice(list(self.open))]

    async def _request(self, what: str, execution: Execution[Any], request: Awaitable[None]) -> None:
        self._note(False, what, execution.id)
        with contextlib.suppress(ExecutionClosed):
            await request
            self._note(True, what, execution.id)

    async def send_number(self) -> None:
        """Send one number after the other, in order, to one that receives."""
        kind, i = self.choose.choice(["collect", "relay"]), self.choose.randrange(SHARED)
        execution: Execution[Any] = self.client.execution(f"shared-{kind}-{i}")
        for _ in range(self.choose.randint(1, 5)):
            self.value += 1
            self._note(False, "signal", execution.id, self.name, self.value)
            await execution.signal(number, self.value)
            self._note(True, "signal", execution.id, self.name, self.value)

    async def hold(self) -> None:
        """Pause an execution, and resume it after a while."""
        if not self.open:
            return
        execution = self._any() if self.choose.random() < 0.8 else self.client.execution("shared-collect-0")
        await self._request("pause", execution, execution.pause("for a moment"))
        await asyncio.sleep(self.choose.choice([0, 0.01, 0.1]))
        await self._request("resume", execution, execution.resume())

    async def cancel(self) -> None:
        if self.open:
            execution = self._any()
            await self._request("cancel", execution, execution.cancel("enough"))

    async def terminate(self) -> None:
        if self.open:
            execution = self._any()
            await self._request("terminate", execution, execution.terminate("enough"))

    async def answer(self) -> None:
        """Complete some activities that wait for the outside. Another asker may have been faster."""
        self._unanswered += self._tokens.read()
        for _ in range(min(3, len(self._unanswered))):
            token = self._unanswered.pop()
            self._note(False, "complete", token.token, value=token.key)
            with contextlib.suppress(StaleToken):
                await self.client.complete(token.token, token.key)
                self._note(True, "complete", token.token, value=token.key)

    async def read_state(self) -> None:
        if self.open:
            execution = self._any()
            done = (await execution.state()).get("done")
            if done is not None:
                self._note(True, "state", execution.id, "done", done)

    def _note(self, told: bool, what: str, id: str, name: str = "", value: Any = None) -> None:
        append(self.places.words, Word(told, what, id, name, value, now_us()))
