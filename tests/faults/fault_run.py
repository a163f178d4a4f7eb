"""A small run of everything that touches the disk, by people who try again when they are told that it did not work.

They write down what they were told, and every effect; afterwards, on a disk without faults, it is compared.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from perdure import Client, Engine, Execution, Filter, Retry, Signal, Status, Transaction, activity, state, workflow
from perdure.errors import ExecutionClosed, ExecutionNotFound, InternalError, PerdureError, StoreError
from perdure.testing.clock import VirtualClock, VirtualLoop

T = TypeVar("T")
ID = "run"
PATIENCE_S = 200.0
approved = Signal("approved", str)
effects: Counter[str] = Counter()
LARGE = "x" * 70_000 + "y"


@activity(retry=Retry(attempts=None, initial_s=0.01, interruptions=1_000))
async def step(name: str) -> str:
    effects[name] += 1
    return name


@activity(transactional=True)
def tally(transaction: Transaction, name: str) -> int:
    transaction.execute("CREATE TABLE IF NOT EXISTS tally (name TEXT)")
    transaction.execute("INSERT INTO tally VALUES (?)", (name,))
    return transaction.execute("SELECT count(*) FROM tally WHERE name = ?", (name,))[0][0]


@workflow
async def everything(payload: str) -> list[Any]:
    found: list[Any] = [await step("a")]
    state["phase"] = "waiting"
    await asyncio.sleep(5)
    found.append(await approved.receive())
    found.append(await tally.submit("t"))
    found.append(await step("b"))
    return [*found, len(payload)]


EXPECTED = ["a", "yes", 1, "b", len(LARGE)]


class SimulatedEngine(Engine):
    """An engine on virtual time."""

    def _make_watchdog(self, runner: Any) -> None:
        return None


class Wrong(AssertionError):
    """Something that no fault excuses."""


class Logged(logging.Handler):
    """Keeps what is logged as a bug of perdure's, or with a traceback that says nothing to an operator."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.bugs: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        bare = record.exc_info is not None and not isinstance(record.exc_info[1], StoreError)
        if bare or "please report" in message:
            self.bugs.append(f"{message}: {record.exc_info and record.exc_info[1]!r}")


class Run:
    """One run on one file. `told` is what was acknowledged."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.told: set[str] = set()
        self.errors: list[StoreError] = []
        self.clock = VirtualClock()
        self.loop: VirtualLoop
        self.logged = Logged()
        self.unhandled: list[str] = []

    def play(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do something on a loop of its own. Raises `Wrong`."""
        self.loop = VirtualLoop(self.clock)
        self.loop.set_exception_handler(lambda loop, context: self.unhandled.append(_said(context)))
        logger = logging.getLogger("perdure")
        logger.addHandler(self.logged)
        try:
            self.loop.run_until_complete(act())
        finally:
            logger.removeHandler(self.logged)
            self.loop.close()
        if self.unhandled:
            raise Wrong(f"unhandled: {self.unhandled}")
        if self.logged.bugs:
            raise Wrong(f"logged as a bug: {self.logged.bugs}")

    # --- what people do ---------------------------------------------------------------------------------------------

    async def use(self) -> None:
        """Do the whole of it."""
        engine = await self.insist(self._open(lambda: SimulatedEngine(self.path, [everything], now=self.clock.now_us)))
        try:
            await self._work(engine)
        finally:
            await self._closing(engine)
        client = await self.insist(self._open(lambda: Client(self.path, now=self.clock.now_us)))
        try:
            await self.insist(lambda: client.gc(older_than_s=0, status=(Status.FAILED,)))
        finally:
            await self._closing(client)

    async def _work(self, engine: Engine) -> None:
        execution: Execution[Any] = await self.insist(lambda: engine.start(everything, LARGE, id=ID))
        self.told.add("started")
        client = await self.insist(self._open(lambda: Client(self.path, now=self.clock.now_us)))
        try:
            await self.insist(lambda: client.execution(ID).signal(approved, "yes"))
            self.told.add("signalled")
        except ExecutionClosed:  # it was heard although it was refused: what failed was only the answer
            pass
        finally:
            await self._closing(client)
        result = await self.insist(execution.result)
        if result != EXPECTED:
            raise Wrong(f"the result is {result}")
        self.told.add("ended")
        await self.insist(lambda: engine.list(Filter()))
        await self.insist(execution.info)

    def _open(self, make: Callable[[], Client]) -> Callable[[], Awaitable[Any]]:
        async def opened() -> Any:
            return await make().__aenter__()

        return opened

    async def _closing(self, opened: Client) -> None:
        """Close: that works, whatever the disk says."""
        try:
            async with asyncio.timeout(PATIENCE_S):
                await opened.__aexit__(None, None, None)
        except TimeoutError:
            raise Wrong(f"{type(opened).__name__} does not close") from None

    async def insist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Try until it works. Raises `Wrong` for an error that does not tell what to do, or when nothing helps."""
        deadline = self.loop.time() + PATIENCE_S
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await act()
            except StoreError as error:
                self.errors.append(error)
                if not error.hint:
                    raise Wrong(f"an error without a hint: {error!r}") from error
            except TimeoutError:
                raise Wrong("it does not go on although the fault is gone") from None
            await asyncio.sleep(0.5)

    # --- afterwards -------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """On a disk without faults: what was told is true, and the rest comes to its end."""
        async with SimulatedEngine(self.path, [everything], now=self.clock.now_us) as engine:
            findings = [finding for finding in engine.store.check(quick=False) if not finding[1]]
            if findings:
                raise Wrong(f"the file is not sound: {findings}")
            await self._compare(engine)
            execution: Execution[Any] = await engine.start(everything, LARGE, id=ID)
            if "signalled" not in self.told:
                try:
                    await execution.signal(approved, "yes")
                except ExecutionClosed:
                    pass
            result = await asyncio.wait_for(execution.result(), PATIENCE_S)
            if result != EXPECTED:
                raise Wrong(f"in the end the result is {result}")

    async def _compare(self, engine: Engine) -> None:
        try:
            info = await engine.describe(ID)
        except ExecutionNotFound:
            if self.told:
                raise Wrong(f"lost, after it was {self.told}") from None
            return
        if "ended" in self.told and info.status is not Status.COMPLETED:
            raise Wrong(f"its end was told, and it is {info.status}")
        kinds = [event.kind async for event in engine.execution(ID).history()]
        waiting = engine.store.parked(engine.store.find(ID).num)
        if "signalled" in self.told and "signal_received" not in kinds and not waiting:
            raise Wrong("a signal that was acknowledged is lost")


def _said(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"


__all__ = ["EXPECTED", "ID", "LARGE", "InternalError", "PerdureError", "Run", "Wrong", "effects", "everything"]
