"""One attempt of an activity. An activity in progress has exactly one, in `Live.attempts`; `next` makes its successor.

           start                      raised, tries left
READY ──────────────▶ RUNNING ─────────────────────────────▶ gone; its successor: BACKOFF ──(retry timer)──▶ READY
                         │ finish_later()
                         ├───────────────▶ DEFERRED ──(token completed from outside)──▶ gone
                         │ returned, raised for good, timed out, cancelled
                         └───────────────▶ gone: the object leaves `Live.attempts`, what it still does is ignored
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import msgspec

from perdure.client.token import digest
from perdure.errors import FinishLater

if TYPE_CHECKING:
    from perdure.activity import Activity
    from perdure.engine.live import Live


class Phase(Enum):
    READY = "ready"
    RUNNING = "running"
    BACKOFF = "backoff"
    DEFERRED = "deferred"


class Handle(Protocol):
    """What runs the attempt: a task, a thread's future, a stay in a worker process."""

    def cancel(self) -> bool: ...


class Attempt(msgspec.Struct, eq=False, weakref=True):
    """See the module; implements `activity.Attempt`, what user code sees of it. Instants are microseconds since
    1970."""

    live: Live
    seq: int
    activity_def: Activity[..., Any, Any]
    data: str
    scheduled_at: int
    number: int = 1
    failed: int = 0
    """Attempts that raised or timed out."""
    interrupted: int = 0
    """Attempts that died with their process."""
    phase: Phase = Phase.READY
    retry_at: int | None = None
    clean: bool = False
    """The attempt before was stopped in order, so this one starts without counting as an interruption."""
    from_log: bool = False
    """It was read from the log: a process that is gone may have started it."""
    proved: bool = False
    """The file says that this attempt started."""
    details: str | None = None
    """What this attempt's last heartbeat said, as JSON."""
    last: str | None = None
    """What the attempt before said."""
    beat_at: float = 0.0
    stop: bool = False
    """Asks a `def` activity to stop; it sees `cancelled`."""
    ended: bool = False
    """Nobody waits for this attempt any more: its outcome is ignored."""
    handle: Handle | None = None
    unbegun: bool = False
    """Its coroutine has not begun. Cancelled now it never would, and nobody would answer; it looks for itself."""
    alarms: list[asyncio.TimerHandle] = []
    on_heartbeat: Callable[[Attempt, str], None] | None = None
    secret_hash: str | None = None
    _secret: str | None = None

    @property
    def needs_proof(self) -> bool:
        """Whether its start has to be in the file before it runs.

        An activity that waited for a place when the process died did not run. After the first crash it matters which
        one did, since the number of interruptions is limited. Before, the write is saved. An attempt after a `clean`
        end has no other trace in the file: without it nobody would see that it died, however often.
        """
        return self.interrupted > 0 or self.clean or self.activity_def.defaults.retry.interruptions == 0

    # --- what user code sees ----------------------------------------------------------------------------------------

    @property
    def execution_id(self) -> str:
        return self.live.row.id

    @property
    def activity(self) -> str:
        return self.activity_def.name

    @property
    def idempotency_key(self) -> str:
        row = self.live.row
        return f"{row.id}:{row.run}:{self.seq}"

    @property
    def token(self) -> str:
        if self._secret is None:
            self._secret = secrets.token_urlsafe(18)
            self.secret_hash = digest(self._secret)
        return f"{self.live.row.num}.{self.seq}.{self.number}.{self._secret}"

    def heartbeat(self, details: Any = None) -> None:
        self.beat(msgspec.json.encode(details).decode())

    def beat(self, details: str) -> None:
        """Note a heartbeat with its details as JSON."""
        if self.on_heartbeat is not None:
            self.on_heartbeat(self, details)

    @property
    def last_details(self) -> Any:
        return None if self.last is None else msgspec.json.decode(self.last)

    @property
    def cancelled(self) -> bool:
        return self.stop or self.ended

    def finish_later(self) -> NoReturn:
        raise FinishLater

    # --- what the engine does ---------------------------------------------------------------------------------------

    def next(self) -> Attempt:
        """Make the attempt after this one. User code may still hold this one, so it stays as it is."""
        other = Attempt(self.live, self.seq, self.activity_def, self.data, self.scheduled_at)
        other.number = self.number + 1
        other.failed, other.interrupted = self.failed, self.interrupted
        other.last = self.details if self.details is not None else self.last
        return other

    def owns(self, number: int, proof: str) -> bool:
        """Say whether a token's parts belong to this attempt."""
        return number == self.number and self.secret_hash is not None and hmac.compare_digest(proof, self.secret_hash)

    def stand_in(self, loaded: Attempt) -> None:
        """Take the place of the object that was loaded from the log after this one's execution was dropped."""
        self.live, self.phase = loaded.live, Phase.RUNNING
        self.failed, self.interrupted = loaded.failed, loaded.interrupted

    def abandon(self) -> None:
        """Stop caring: cancel what can be cancelled; its outcome is ignored from now on."""
        self.ended = True
        self.disarm()
        self.cancel()

    def cancel(self) -> None:
        """End what runs, as far as that can be done."""
        if self.handle is not None and not self.unbegun:
            self.handle.cancel()

    def disarm(self) -> None:
        for alarm in self.alarms:
            alarm.cancel()
        self.alarms.clear()
