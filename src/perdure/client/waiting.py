"""Who waits for which execution to end."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from perdure.codec.payload import DecodeError
from perdure.errors import EngineClosed, ExecutionNotFound, StoreError
from perdure.events import Event, Kind
from perdure.store import ExecutionRow, Store

if TYPE_CHECKING:
    from perdure.store.sqlite import Doorbell

logger = logging.getLogger("perdure.client")

LOOK_EVERY_S = 1.0
"""How often a waiting client looks without being rung, in case a ring was lost."""

Ending = tuple[ExecutionRow, Event | None]


class Waiting:
    """Futures by execution id. The runner in this process reports ends at once; for one in another process the
    doorbell rings and this looks into the file."""

    def __init__(self, loop: asyncio.AbstractEventLoop, store: Store, doorbell: Doorbell) -> None:
        self.loop = loop
        self.store = store
        self.doorbell = doorbell
        self.remote = True
        """Whether ends have to be looked for in the file."""
        self._futures: dict[str, list[asyncio.Future[Ending]]] = {}
        self._fd: int | None = None
        self._look_handle: asyncio.TimerHandle | None = None
        self._not_before = 0.0

    async def ended(self, id: str, is_open: Callable[[str], bool]) -> Ending:
        """Wait for the newest run of an execution to end. `is_open` may say cheaply that it is certainly open. Raises
        `ExecutionNotFound`."""
        future: asyncio.Future[Ending] = self.loop.create_future()
        self._futures.setdefault(id, []).append(future)
        try:
            if not is_open(id) and not self._check(id):
                raise not_found(id)
            if self.remote and not future.done():
                self._listen()
            return await future
        finally:
            left = [other for other in self._futures.get(id, ()) if other is not future and not other.done()]
            if left:
                self._futures[id] = left
            else:
                self._futures.pop(id, None)

    def follow(self, remote: bool) -> None:
        """Take note that the runner is in another process now, or in this one."""
        self.remote = remote
        if self._futures:
            if remote:
                self._listen()
            self._look()  # what ended while nobody told us

    def report(self, closed: dict[str, Ending]) -> None:
        """Wake those who wait for what this process's runner has just closed."""
        if not self._futures:
            return
        for id, ending in closed.items():
            if ending[1] is None or ending[1].kind is not Kind.CONTINUED:
                self._resolve(id, ending)

    def close(self) -> None:
        if self._look_handle is not None:
            self._look_handle.cancel()
        if self._fd is not None:
            self.loop.remove_reader(self._fd)
            self._fd = None
        for futures in self._futures.values():
            for future in futures:
                if not future.done():
                    future.set_exception(EngineClosed("closed while waiting for an execution to end"))
        self._futures.clear()

    def _resolve(self, id: str, ending: Ending) -> None:
        for future in self._futures.pop(id, ()):
            if not future.done():
                future.set_result(ending)

    def _check(self, id: str) -> bool:
        """Look whether an execution has ended, and wake who waits for that; false when there is none."""
        found = self.store.ending(id)
        if found is not None and found[0].status.closed and found[0].ended_at is not None:
            event = found[1]
            if event is None or event.kind is not Kind.CONTINUED:
                self._resolve(id, found)
        return found is not None

    def _check_all(self) -> None:
        """Look at everything that is waited for. Nobody waits in vain because of what somebody else waits for."""
        for id in list(self._futures):
            try:
                self._check(id)
            except DecodeError as error:  # ended, and what it ended with cannot be read: there is no key here, perhaps
                for future in self._futures.pop(id, ()):
                    if not future.done():
                        future.set_exception(error)
            except StoreError as error:
                logger.warning("could not look whether %s has ended, trying again: %s", id, error)

    # --- a runner in another process ---------------------------------------------------------------------------------

    def _listen(self) -> None:
        if self._fd is None:
            self._fd = self.doorbell.listen("client")
            if self._fd is not None:
                self.loop.add_reader(self._fd, self._rung)
            self._check_all()  # what ended between our look and our listening
        if self._look_handle is None:
            self._look_handle = self.loop.call_later(LOOK_EVERY_S, self._look)

    def _rung(self) -> None:
        self.doorbell.answer()
        delay = self._not_before - self.loop.time()
        if delay <= 0:
            self._look()
        else:
            self._look_at(delay)

    def _look(self) -> None:
        """Look for ends of everything that is waited for, and not again at once: looking costs in proportion to
        that."""
        began = self.loop.time()
        self._check_all()
        self._not_before = self.loop.time() + 4 * (self.loop.time() - began)
        if self._look_handle is not None:
            self._look_handle.cancel()
            self._look_handle = None
        if self._futures and self.remote:
            self._look_at(LOOK_EVERY_S)

    def _look_at(self, delay: float) -> None:
        if self._look_handle is not None:
            if self._look_handle.when() <= self.loop.time() + delay:
                return
            self._look_handle.cancel()
        self._look_handle = self.loop.call_later(delay, self._look)


def not_found(id: str, run: int | None = None, newest: ExecutionRow | None = None) -> ExecutionNotFound:
    """Say that there is no such execution, or no such run of it."""
    if run is not None and newest is not None:
        hint = f"`perdure list --prefix {id}` shows its runs"
        return ExecutionNotFound(f"execution {id} has no run {run}; the newest is {newest.run}", hint=hint)
    return ExecutionNotFound(f"there is no execution {id}", hint="`perdure list` shows what there is")
