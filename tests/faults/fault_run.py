"""A small run of everything that touches the disk, by people who try again when they are told that it did not work.

They write down what they were told, and every effect; afterwards, on a disk without faults, it is compared.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from perdure import Client, Engine, Execution, Filter, Retry, Signal, Status, Transaction, activity, state, workflow
from perdure.errors import ExecutionClosed, ExecutionNotFound, StoreError
from perdure.testing.clock import VirtualClock, VirtualLoop

T = TypeVar("T")
ID = "run"
PATIENCE_S = 200.0
TRY_EVERY_S = 0.5
LARGE = "x" * 70_000
approved = Signal("approved", str)
effects: Counter[str] = Counter()


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


class GaveUp(Exception):
    """Someone has tried long enough, and closes what is open."""


class Logged(logging.Handler):
    """Keeps what is logged as a bug of perdure's, or with a traceback that says nothing to an operator."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.bugs: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        error = record.exc_info[1] if record.exc_info else None
        if "please report" in message or not isinstance(error, StoreError | None):
            self.bugs.append(f"{message}: {error!r}")


class OneThread(VirtualLoop):
    """A loop that does on its own thread what is meant for others. Here Python answers the system calls, some of them
    while SQLite holds a lock of the whole process: a second thread that waits for that lock, and keeps Python's
    meanwhile, would wait for ever."""

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:
        future = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        return future


class Run:
    """One run on one file. `told` is what was acknowledged. People try for `patience_s` seconds of virtual time: for
    less than a fault lasts, and they give up."""

    def __init__(self, path: Path, patience_s: float = PATIENCE_S) -> None:
        self.path = path
        self.patience_s = patience_s
        self.told: set[str] = set()
        self.errors: list[str] = []
        self.clock = VirtualClock()
        self.loop: VirtualLoop
        self.logged = Logged()
        self.unhandled: list[str] = []
        effects.clear()

    def play(self, act: Callable[[], Awaitable[None]]) -> None:
        """Do something on a loop of its own. Raises `Wrong`."""
        self.loop = OneThread(self.clock)
        self.loop.set_exception_handler(lambda loop, context: self.unhandled.append(_said(context)))
        logger = logging.getLogger("perdure")
        logger.addHandler(self.logged)
        try:
            self.loop.run_until_complete(act())
        finally:
            logger.removeHandler(self.logged)
            self.loop.close()
        if self.unhandled or self.logged.bugs:
            raise Wrong(f"unhandled: {self.unhandled}, logged as a bug: {self.logged.bugs}")

    # --- what people do ---------------------------------------------------------------------------------------------

    async def use(self) -> None:
        """Do the whole of it, or as much as goes."""
        with contextlib.suppress(GaveUp):
            async with self._opened(lambda: SimulatedEngine(self.path, [everything], now=self.clock.now_us)) as engine:
                await self._work(engine)
            async with self._opened(lambda: Client(self.path, now=self.clock.now_us)) as client:
                await self._insist(lambda: client.gc(older_than_s=0, status=(Status.FAILED,)))

    async def _work(self, engine: Any) -> None:
        execution: Execution[Any] = await self._insist(lambda: engine.start(everything, LARGE, id=ID))
        self.told.add("started")
        async with self._opened(lambda: Client(self.path, now=self.clock.now_us)) as client:
            with contextlib.suppress(ExecutionClosed):  # it was heard although it was refused
                await self._insist(lambda: client.execution(ID).signal(approved, "yes"))
                self.told.add("signalled")
        result = await self._insist(execution.result)
        if result != EXPECTED:
            raise Wrong(f"the result is {result}")
        self.told.add("ended")
        await self._insist(lambda: engine.list(Filter()))
        await self._insist(execution.info)

    @contextlib.asynccontextmanager
    async def _opened(self, make: Callable[[], Client]) -> Any:
        """Open, and close in the end: closing works, whatever the disk says."""

        async def enter() -> Client:
            return await make().__aenter__()

        opened = await self._insist(enter)
        try:
            yield opened
        finally:
            try:
                async with asyncio.timeout(PATIENCE_S):
                    await opened.__aexit__(None, None, None)
            except TimeoutError:
                raise Wrong(f"{type(opened).__name__} does not close") from None

    async def _insist(self, act: Callable[[], Awaitable[T]]) -> T:
        """Try until it works. Raises `Wrong` for an error that does not tell what to do, or when nothing helps."""
        deadline = self.loop.time() + self.patience_s
        while True:
            try:
                async with asyncio.timeout_at(deadline):
                    return await act()
            except StoreError as error:
                self.errors.append(str(error))
                if not error.hint or "apsw" in str(error):
                    raise Wrong(f"an error that does not help: {error!r}") from error
            except TimeoutError:
                pass
            if self.loop.time() >= deadline:  # also where nothing has waited for it
                if self.patience_s < PATIENCE_S:
                    raise GaveUp
                raise Wrong(f"it does not go on although the fault is gone: {self.errors[-1:]}")
            await asyncio.sleep(TRY_EVERY_S)

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
                with contextlib.suppress(ExecutionClosed):
                    await execution.signal(approved, "yes")
            result = await asyncio.wait_for(execution.result(), PATIENCE_S)
            if result != EXPECTED:
                raise Wrong(f"in the end the result is {result}")
        if self.patience_s == PATIENCE_S and effects != {"a": 1, "b": 1}:
            raise Wrong(f"in one process these took effect: {dict(effects)}")

    async def _compare(self, engine: Engine) -> None:
        try:
            info = await engine.describe(ID)
        except ExecutionNotFound:
            if self.told:
                raise Wrong(f"lost, after it was {self.told}") from None
            return
        if "ended" in self.told and info.status is not Status.COMPLETED:
            raise Wrong(f"its end was told, and it is {info.status}")
        row = engine.store.find(ID)
        assert row is not None
        kinds = [event.kind async for event in engine.execution(ID).history()]
        if "signalled" in self.told and "signal_received" not in kinds and not engine.store.parked(row.num):
            raise Wrong("a signal that was acknowledged is lost")


def _said(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: {context.get('exception')!r}"
